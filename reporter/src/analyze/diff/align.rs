//! Which items of two sequences are the same: lines of a function, functions of a file.

/// Comparisons beyond which only what is the same at both ends is matched.
const MOST: usize = 1 << 23;

/// How alike two items are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Different.
    None,
    /// The same.
    Same,
    /// The same, and in the same place.
    Unmoved,
}

impl Likeness {
    /// One more pair is worth more than any number of pairs in their old places.
    fn weight(self) -> u64 {
        match self {
            Likeness::None => 0,
            Likeness::Same => 1 << 32,
            Likeness::Unmoved => (1 << 32) + 1,
        }
    }
}

/// For each of `new` items the one of `old` items that it was, in order: as many as can be the same,
/// and of equal choices the one that moves the fewest. Items that changed where they stood, between
/// others that are the same, are matched by their order.
pub fn align(
    old: usize,
    new: usize,
    likeness: impl Fn(usize, usize) -> Likeness,
) -> Vec<Option<usize>> {
    let mut matched = vec![None; new];
    let unmoved = |(a, b): (usize, usize)| likeness(a, b) == Likeness::Unmoved;
    let head = (0..old).zip(0..new).take_while(|&pair| unmoved(pair)).count();
    let same = |&(a, b): &(usize, usize)| likeness(a, b) != Likeness::None;
    let tail = (head..old).rev().zip((head..new).rev()).take_while(same).count();
    for at in 0..head {
        set(&mut matched, at, at);
    }
    for at in 0..tail {
        set(&mut matched, new - 1 - at, old - 1 - at);
    }
    let (inner_old, inner_new) = (old - head - tail, new - head - tail);
    if inner_old.saturating_mul(inner_new) <= MOST {
        let likeness = |a: usize, b: usize| likeness(head + a, head + b);
        for (a, b) in longest(inner_old, inner_new, likeness) {
            set(&mut matched, head + b, head + a);
        }
    }
    fill_gaps(&mut matched, old);
    matched
}

fn set(matched: &mut [Option<usize>], new: usize, old: usize) {
    if let Some(slot) = matched.get_mut(new) {
        *slot = Some(old);
    }
}

/// The heaviest common subsequence, as pairs.
fn longest(
    old: usize,
    new: usize,
    likeness: impl Fn(usize, usize) -> Likeness,
) -> Vec<(usize, usize)> {
    let width = new + 1;
    let mut best = vec![0u64; (old + 1) * width];
    let get = |best: &[u64], a: usize, b: usize| best.get(a * width + b).copied().unwrap_or(0);
    let paired = |best: &[u64], a: usize, b: usize| match likeness(a, b).weight() {
        0 => 0,
        weight => weight + get(best, a + 1, b + 1),
    };
    for a in (0..old).rev() {
        for b in (0..new).rev() {
            let apart = get(&best, a + 1, b).max(get(&best, a, b + 1));
            let value = paired(&best, a, b).max(apart);
            if let Some(slot) = best.get_mut(a * width + b) {
                *slot = value;
            }
        }
    }
    let (mut a, mut b) = (0, 0);
    let mut pairs = Vec::new();
    while a < old && b < new {
        let here = get(&best, a, b);
        if here > 0 && paired(&best, a, b) == here {
            pairs.push((a, b));
            (a, b) = (a + 1, b + 1);
        } else if get(&best, a + 1, b) >= get(&best, a, b + 1) {
            a += 1;
        } else {
            b += 1;
        }
    }
    pairs
}

/// Between two items that are matched, or at an end, as many old ones as new ones: they changed.
fn fill_gaps(matched: &mut [Option<usize>], old: usize) {
    let (mut from, mut next) = (0, 0);
    while from < matched.len() {
        let gap = matched.iter().skip(from).take_while(|it| it.is_none()).count();
        let until = matched.get(from + gap).copied().flatten().unwrap_or(old);
        if gap > 0 && until.checked_sub(next) == Some(gap) {
            for (slot, old) in matched.iter_mut().skip(from).zip(next..until) {
                *slot = Some(old);
            }
        }
        from += gap + 1;
        next = until + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(old: &str, new: &str) -> Vec<Option<usize>> {
        let (old, new): (Vec<char>, Vec<char>) = (old.chars().collect(), new.chars().collect());
        align(old.len(), new.len(), |a, b| match (old[a] == new[b], a == b) {
            (true, true) => Likeness::Unmoved,
            (true, false) => Likeness::Same,
            _ => Likeness::None,
        })
    }

    #[test]
    fn what_is_inserted_is_new() {
        assert_eq!(texts("abc", "abxc"), [Some(0), Some(1), None, Some(2)]);
        assert_eq!(texts("abc", "xxabc"), [None, None, Some(0), Some(1), Some(2)]);
        assert_eq!(texts("abc", "ac"), [Some(0), Some(2)]);
        assert_eq!(texts("", "ab"), [None, None]);
        assert_eq!(texts("ab", ""), []);
    }

    #[test]
    fn what_changed_in_its_place_is_matched() {
        assert_eq!(texts("abc", "axc"), [Some(0), Some(1), Some(2)]);
        assert_eq!(texts("abc", "xyz"), [Some(0), Some(1), Some(2)]);
        assert_eq!(texts("abc", "xy"), [None, None]);
        assert_eq!(texts("abcd", "axd"), [Some(0), None, Some(3)]);
    }

    #[test]
    fn of_equal_items_those_that_did_not_move_are_the_same() {
        let kept = [1, 3];
        let found = align(kept.len(), 3, |a, b| match kept[a] == b + 1 {
            true => Likeness::Unmoved,
            false => Likeness::Same,
        });
        assert_eq!(found, [Some(0), None, Some(1)]);
    }

    /// What must hold for any two sequences.
    #[test]
    fn matches_are_in_order_and_once() {
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for _ in 0..3_000 {
            let mut text = |letters| -> String {
                let len = random(12);
                (0..len).map(|_| char::from(b'a' + random(letters) as u8)).collect()
            };
            let (old, new) = (text(4), text(4));
            let found = texts(&old, &new);
            let taken: Vec<usize> = found.iter().flatten().copied().collect();
            assert!(taken.is_sorted_by(|a, b| a < b), "{old} {new}: {found:?}");
            assert!(taken.iter().all(|&it| it < old.len()));
            let same = found
                .iter()
                .enumerate()
                .filter(|&(b, a)| a.is_some_and(|a| old.as_bytes()[a] == new.as_bytes()[b]));
            assert!(same.count() >= common(old.as_bytes(), new.as_bytes()), "{old} {new}");
            assert_eq!(texts(&old, &old), (0..old.len()).map(Some).collect::<Vec<_>>());
        }
    }

    /// Length of the longest common subsequence, found another way.
    fn common(old: &[u8], new: &[u8]) -> usize {
        match (old.split_first(), new.split_first()) {
            (Some((a, olds)), Some((b, news))) if a == b => 1 + common(olds, news),
            (Some((_, olds)), Some((_, news))) => common(olds, new).max(common(old, news)),
            _ => 0,
        }
    }

    #[test]
    fn too_much_to_compare_still_matches_both_ends() {
        let size = 4_000;
        let found = align(size, size + 1, |a, b| match (a < 10, a == b, a + 1 == b) {
            (true, true, _) => Likeness::Unmoved,
            (_, _, true) if a >= size - 10 => Likeness::Same,
            _ => Likeness::None,
        });
        assert_eq!((found[0], found[9], found[10]), (Some(0), Some(9), None));
        assert_eq!((found[size - 10], found[size]), (None, Some(size - 1)));
    }
}
