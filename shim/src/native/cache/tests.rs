use super::*;
use crate::hash::scatter;

/// A stack whose functions have frames of sizes that are theirs; every third one saves rbp, and every
/// other innermost one has it in the register.
struct Program {
    memory: Vec<u64>,
    register: u64,
    random: u64,
}

impl Program {
    fn draw(&mut self, below: u64) -> u64 {
        self.random = mix(self.random, 1);
        (self.random >> 32) % below
    }

    /// Lays a stack down: its words, with whether each is a saved rbp.
    fn call(&mut self) -> Vec<(usize, u64, bool)> {
        for at in 0..self.memory.len() {
            self.memory[at] = self.draw(4);
        }
        self.register = 7 + self.draw(3);
        let (mut at, mut words) = (0, Vec::new());
        let put = |words: &mut Vec<_>, memory: &mut Vec<u64>, at: usize, value, is_base| {
            memory[at] = value;
            words.push((&raw const memory[at] as usize, value, is_base));
        };
        for depth in 0..1 + self.draw(5) {
            // Few functions, so that paths are alike.
            let function = 1000 + if depth == 0 { self.draw(2) } else { self.draw(4) };
            put(&mut words, &mut self.memory, at, function, false);
            if function % 3 == 0 {
                let base = self.draw(2);
                put(&mut words, &mut self.memory, at + 1, base, true);
            }
            if depth == 0 && function % 2 == 0 {
                words.push((IN_REGISTER, self.register, true));
            }
            at += 2 + function as usize % 5;
        }
        put(&mut words, &mut self.memory, at, 1, false);
        words
    }
}

#[test]
fn paths_are_found_and_never_taken_for_others() {
    let mut program = Program { memory: vec![0; 128], register: 0, random: 1 };
    let mut cache = PathCache::map(0).unwrap();
    let (mut hits, mut aside, mut late) = (0, 0, 0);
    let mut known = std::collections::HashSet::new();
    for turn in 0..60_000 {
        let words = program.call();
        let sp = program.memory.as_ptr() as usize;
        let anchor = Anchor { sp, bp: program.register as usize };
        let addresses = || words.iter().filter(|(_, _, is_base)| !is_base).map(|word| word.1);
        let hash = words.iter().fold(1, |hash, word| mix(hash, word.1));
        // SAFETY: the cache is the test's alone, and the stack its own.
        let here = unsafe { &mut *cache };
        // (Not of the stack pointer: which nodes give way to which must not differ from run to run.)
        let key = scatter(words[0].1);
        // SAFETY: as above.
        match unsafe { here.find(anchor, key) } {
            Some(path) => {
                assert_eq!(path.hash, hash);
                hits += 1;
                let mut seen = Vec::new();
                let see = |word, _, is_address| seen.extend(Some(word).filter(|_| is_address));
                // SAFETY: as above.
                assert!(unsafe { here.follow(anchor, key, see) }.is_ok());
                assert!(seen.into_iter().eq(addresses()));
            }
            None => {
                // SAFETY: as above.
                let missed = match unsafe { here.follow(anchor, key, |_, _, _| {}) } {
                    Err(missed) => missed,
                    Ok(path) => {
                        assert_eq!(path.hash, hash);
                        aside += usize::from(turn > 30_000);
                        continue;
                    }
                };
                late += usize::from(turn > 30_000 && known.contains(&hash));
                if !here.has_room() || here.is_crowded() {
                    match here.grown() {
                        Some(fresh) => {
                            // SAFETY: nothing leads to the old one any more.
                            unsafe { PathCache::unmap(cache) };
                            cache = fresh;
                        }
                        None => here.clear(),
                    }
                    continue;
                }
                here.begin(anchor.sp);
                words.iter().for_each(|&(at, value, is_base)| here.word(at, value, is_base));
                here.keep(&missed, Path::new(hash, true));
            }
        }
        known.insert(hash);
    }
    assert!(hits > 20_000, "{hits}");
    // What is known is found, but for what had to give way.
    assert!(late < hits / 40, "{late} of {hits}");
    assert!(aside > 100, "{aside}");
    // SAFETY: nobody uses it any more.
    unsafe { PathCache::unmap(cache) };
}

#[test]
fn of_nodes_in_two_places_the_oldest_gives_way() {
    let memory = [5u64];
    let cache = PathCache::map(0).unwrap();
    let anchor = Anchor { sp: memory.as_ptr() as usize, bp: 0 };
    // SAFETY: the cache is the test's alone, and the word that is kept is of the stack.
    let knows = |key| unsafe { (*cache).follow(anchor, key, |_, _, _| {}) };
    let keep = |key| {
        let missed = knows(key).map(|path| path.hash).expect_err("it is not kept yet");
        // SAFETY: as above.
        unsafe {
            (*cache).begin(anchor.sp);
            (*cache).word(anchor.sp, 5, false);
            (*cache).keep(&missed, Path::new(key, false));
        }
    };
    let key = |place: u64, number: u64| number << 48 | place << 32;
    // Two in one place: each is put aside for the other.
    let (one, two) = (key(6, 1), key(6, 2));
    [one, two].into_iter().for_each(keep);
    for _ in 0..3 {
        assert_eq!([one, two].map(|key| knows(key).map_or(0, |path| path.hash)), [one, two]);
        // SAFETY: as above.
        assert!(unsafe {
            (*cache).find(anchor, two).is_some() && (*cache).find(anchor, one).is_none()
        });
    }
    // (Ages are told in scores.)
    (100..300).for_each(|place| keep(key(place, 1)));
    // One that comes to the place beside them finds the elder there, and so does the next one.
    let (three, four) = (key(7, 3), key(6, 4));
    [three, four].into_iter().for_each(keep);
    assert!([three, four].iter().all(|&key| knows(key).is_ok()));
    assert!([one, two].iter().all(|&key| knows(key).is_err()));
    // SAFETY: nobody uses it any more.
    unsafe { PathCache::unmap(cache) };
}

#[test]
fn a_word_too_far_away_is_not_kept() {
    let memory = [5u64, 6, 7];
    let cache = PathCache::map(0).unwrap();
    let anchor = Anchor { sp: memory.as_ptr() as usize, bp: 0 };
    for (offset, kept) in [(8, true), (12, false), (8 * usize::from(REGISTER), false)] {
        // SAFETY: the cache is the test's alone, and the words that are kept are of the stack.
        let (before, after) = unsafe {
            let before = (*cache).follow(anchor, 9 << 32, |_, _, _| {}).map(|path| path.hash);
            let missed = before.expect_err("it was never kept");
            (*cache).begin(anchor.sp);
            (*cache).word(anchor.sp, 5, false);
            (*cache).word(anchor.sp.wrapping_add(offset), 6, false);
            (*cache).keep(&missed, Path::new(1, false));
            let after = (*cache).find(anchor, 9 << 32).map(|path| path.hash);
            (*cache).clear();
            (missed.before, after)
        };
        assert_eq!((before, after), (0, kept.then_some(1)));
    }
    // SAFETY: nobody uses it any more.
    unsafe { PathCache::unmap(cache) };
}
