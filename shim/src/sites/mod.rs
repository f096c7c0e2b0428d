//! The site table: from a stack to its id.
//!
//! Two keys. The *raw* key hashes addresses as the hot walk meets them; it is
//! looked up without a lock ([`raw`]) and is only good while the code at those
//! addresses lives. The *canonical* key hashes what the frames mean, code object
//! by content; it decides which site a new raw key belongs to. When a code object
//! dies, the raw keys that passed through it are forgotten ([`codes`]), so that
//! another one at its address starts afresh: a site is never mislabelled.
//!
//! Everything past a lookup that hits is the slow path, under one lock; it
//! happens once for each distinct stack, and does anew only what differs from
//! the stack before ([`stack`], [`line`]).

mod codes;
mod full;
mod ids;
mod line;
mod raw;
mod stack;

use core::sync::atomic::{
    AtomicBool, AtomicU8, Ordering::Relaxed, Ordering::Release, Ordering::SeqCst,
};

use pyshim_dump::layout::Lost;
use pyshim_dump::record::{Frame, Origin, Record, SiteHead};

use crate::epoch::Whose;
use crate::guard::Guard;
use crate::hash::mix;
use crate::native::{self, Anchor, Extent, paths};
use crate::python::hooks;
use crate::python::state;
use crate::python::walk::Top;
use crate::spin::SpinLock;
use crate::store::{self, STORE};
use crate::{gate, heap, life};

use codes::{Codes, Forgotten};
use full::FullStack;
use ids::Ids;
use line::Line;
pub use raw::{era, expect, find, key, part, shard_now};
use stack::PythonStack;

/// Where blocks are counted whose stack found no room.
pub const NOWHERE: u32 = 0;

/// The origin of each site, as a number, for whoever must not take a lock.
static ORIGINS: Origins = [const { AtomicU8::new(0) }; store::MAX_SITES as usize];
/// In a forked child those of its parent.
static PARENTS_ORIGINS: Origins = [const { AtomicU8::new(0) }; store::MAX_SITES as usize];

type Origins = [AtomicU8; store::MAX_SITES as usize];

/// Where a block of this process came from, by its site, or one of its parent's.
pub fn origin(site: u32, whose: Whose) -> Option<Origin> {
    let origins = match whose {
        Whose::Own => &ORIGINS,
        Whose::Parents => &PARENTS_ORIGINS,
        Whose::Elders => return None,
    };
    Origin::from_u8(origins.get(site as usize)?.load(Relaxed))
}

/// From so many sites on, native frames no longer multiply the sites of Python blocks.
const MANY_SITES: u32 = 120_000;

/// From so many sites on, new ones keep so many Python frames, the innermost. A program that never
/// ceases to make new code, or new ways to it, must not fill the table with stacks that are seen
/// once, so that none is left for what leaks after that: some 30,000 are for single lines (numpy's
/// tests of arrays have 25,000).
const CUTS: [(u32, usize); 4] = [(225_000, 1), (218_000, 2), (210_000, 4), (200_000, 8)];

/// As often as that, all stacks are defined anew because some of them may mean something else.
const MOST_REPLACEMENTS: u32 = 64;

/// Python frames that the next site keeps.
fn most_frames() -> usize {
    let count = store::site_count();
    CUTS.iter().find(|(many, _)| count >= *many).map_or(usize::MAX, |&(_, most)| most)
}

/// The part behind the lock.
pub struct Sites {
    table: raw::Writer,
    /// Sites, to be found by their canonical keys.
    canonical: Ids,
    /// What was announced of native stacks, by their keys, and the id of the last one.
    paths: Ids,
    last_path: u32,
    codes: Codes,
    line: Line,
    native: native::Stack,
    python: PythonStack,
    full: FullStack,
    said_many: bool,
    said_cut: bool,
    /// How often a program file came to lie where another one had been.
    replacements: u32,
    /// A block came through Python's hooks while Python ran: so they are in place, and stay.
    heard_python: bool,
}

/// See [`Sites`].
pub static SITES: SpinLock<Sites> = SpinLock::new(Sites {
    table: raw::Writer::new(),
    canonical: Ids::new(),
    paths: Ids::new(),
    last_path: 0,
    codes: Codes::new(),
    line: Line::new(),
    native: native::Stack::new(),
    python: PythonStack::new(),
    full: FullStack::new(),
    said_many: false,
    said_cut: false,
    replacements: 0,
    heard_python: false,
});

/// In a forked child, whose sites are numbered anew: the sites so far are its parent's.
pub fn hand_down_origins() {
    let sites = ORIGINS.iter().zip(&PARENTS_ORIGINS).take(store::site_count() as usize);
    sites.for_each(|(own, parents)| parents.store(own.load(Relaxed), Relaxed));
}

/// Two interpreters with a lock each were seen: "under the lock" no longer means alone.
pub static SEVERAL_LOCKS: AtomicBool = AtomicBool::new(false);

/// From here on counters are added to by several at once.
pub fn have_several_locks() {
    SEVERAL_LOCKS.store(true, SeqCst);
    gate::set(gate::SEVERAL_LOCKS, true);
}

/// Where a block is being allocated.
#[derive(Clone, Copy)]
pub struct Place {
    /// The native stack.
    pub anchor: Anchor,
    /// The Python stack.
    pub top: Option<Top>,
    /// Its key.
    pub python: u64,
    /// The key of the native stack ([`paths::key`]).
    pub native: u64,
    /// Whether that was walked just now, so that its frames are at hand.
    pub at_hand: bool,
    /// Where the native stack was looked up ([`paths::key`]).
    pub hint: u64,
    /// How much of the native stack is recorded.
    pub extent: Extent,
    /// The allocator.
    pub origin: Origin,
}

/// The site of a stack whose raw key is new.
#[cold]
#[inline(never)]
pub fn define(guard: &Guard, place: &Place, key: u64) -> u32 {
    life::on_new_site(guard, place);
    if let Some(top) = place.top {
        state::remember(top.tstate);
        state::prove_shortcuts();
    }
    if heap::exhausted() {
        store::lose(Lost::Sites);
        return NOWHERE;
    }
    let mut sites = SITES.lock();
    let site = sites.define(guard, place, key);
    drop(sites);
    site
}

/// A stack, beside what [`Sites`] keeps of it.
struct Gathered {
    /// Frames were left out.
    truncated: bool,
    /// So many frames of what is kept are told, the innermost, and whether that is not all.
    most: usize,
    cut: bool,
}

impl Gathered {
    /// The frames of what is kept that are told, outermost first as they are.
    fn told<'a>(&self, frames: &'a [Frame]) -> &'a [Frame] {
        let left_out = if self.cut { frames.len().saturating_sub(self.most) } else { 0 };
        frames.get(left_out..).unwrap_or_default()
    }
}

impl Sites {
    fn define(&mut self, guard: &Guard, place: &Place, key: u64) -> u32 {
        if let Some(site) = find(key) {
            return site;
        }
        let mut place = *place;
        if place.origin.is_python() && store::site_count() >= MANY_SITES {
            // Their Python stacks are what Python blocks are told apart by in the first place.
            place.extent = Extent::Off;
            self.say_many();
        }
        self.paths.expect(place.native);
        let gathered = self.gather(guard, &place, key);
        let canonical = self.canonical_key(&place, &gathered);
        self.canonical.expect(canonical);
        let path = self.path(guard, &place);
        let site = match self.canonical.find(canonical) {
            Some(site) => site,
            None => {
                if !store::has_room() && !STORE.lock().make_room() {
                    store::lose(Lost::Sites);
                    return NOWHERE;
                }
                let site = store::header().site_count.fetch_add(1, Release);
                if let Some(slot) = ORIGINS.get(site as usize) {
                    slot.store(place.origin as u8, Relaxed);
                }
                self.canonical.enter(canonical, site);
                self.announce_site(site, &place, path, &gathered);
                site
            }
        };
        if !self.table.enter(key, site) {
            store::lose(Lost::Sites);
        }
        site
    }

    fn say_many(&mut self) {
        if !self.said_many {
            self.said_many = true;
            let text = format!(
                "more than {MANY_SITES} stacks: from there on new stacks of Python blocks have no native frames"
            );
            self.announce(&Record::Note { text });
        }
    }

    fn say_cut(&mut self) {
        if !self.said_cut {
            self.said_cut = true;
            let text = format!(
                "more than {} stacks: from there on new ones keep their inner Python frames alone",
                store::site_count()
            );
            self.announce(&Record::Note { text });
        }
    }

    /// Gathers both stacks.
    fn gather(&mut self, guard: &Guard, place: &Place, key: u64) -> Gathered {
        // Without the hooks the end of a code object is not seen. What asks for blocks while Python
        // runs asks through them from now on: `PYTHONMALLOC` had its way before.
        self.heard_python |= place.top.is_some() && place.origin.is_python();
        let trusted = hooks::settled() || self.heard_python;
        let followed = self.python.follow(place, trusted, &mut self.codes, &mut self.line, key);
        let (mut agrees, mut truncated) = (followed.shown, followed.truncated);
        if place.extent == Extent::Full {
            let (same, left_out) = self.full.follow(guard, place, &self.python, followed.same);
            (agrees, truncated) = (same, truncated || left_out);
        } else if self.full.clear() {
            // The stack before was of another kind.
            agrees = 0;
        }
        self.line.agrees_up_to(agrees);
        let most = most_frames();
        let cut = self.python.shown().len() > most;
        if cut {
            self.say_cut();
        }
        let most = if place.extent == Extent::Full { most.saturating_mul(4) } else { most };
        Gathered { truncated: truncated || cut, most, cut }
    }

    /// What a stack means, whatever the addresses.
    fn canonical_key(&self, place: &Place, gathered: &Gathered) -> u64 {
        let frames = match place.extent {
            _ if gathered.cut => {
                full::hash_of(gathered.told(kept(&self.python, &self.full, place.extent)))
            }
            Extent::Full => self.full.hash(),
            _ => self.python.hash(),
        };
        let canonical = mix(frames, place.origin as u64);
        if place.extent == Extent::Leaf { mix(canonical, place.native) } else { canonical }
    }

    /// The id of the native frames above the innermost Python frame, which are announced if they were
    /// not; 0: there is none.
    fn path(&mut self, guard: &Guard, place: &Place) -> u32 {
        if place.extent != Extent::Leaf {
            return 0;
        }
        if let Some(path) = self.paths.find(place.native) {
            return path;
        }
        let id = self.last_path + 1;
        if id >= ids::MOST {
            store::lose(Lost::Definitions);
            return 0;
        }
        let (anchor, native) = (place.anchor, &mut self.native);
        if !paths::recall(guard, anchor, place.hint, place.at_hand, native) {
            native::unwind(guard, anchor, native::Stop::new(anchor, place.top), native);
        }
        let pcs = self.native.frames().iter().map(|&(pc, _)| pc).collect();
        self.announce(&Record::Path { id, truncated: self.native.truncated, pcs });
        self.paths.enter(place.native, id);
        self.last_path = id;
        id
    }

    fn announce_site(&mut self, id: u32, place: &Place, path: u32, gathered: &Gathered) {
        let frames = kept(&self.python, &self.full, place.extent);
        let site = SiteHead { id, origin: place.origin, truncated: gathered.truncated, path };
        self.line.announce_site(&site, gathered.told(frames), !gathered.cut);
    }

    /// Hands a definition to the collector.
    pub fn announce(&mut self, record: &Record) {
        self.line.announce(record);
    }

    /// All definitions that are under way ([`Line::take`]).
    pub fn take_definitions(&mut self) -> Vec<store::Batch> {
        self.line.take()
    }

    /// Brings everything that is under way into the log.
    pub fn write_out(&mut self, store: &mut store::Store) {
        self.line.write_out(store);
    }

    /// The code object at `address` is about to be freed.
    fn forget_code(&mut self, address: usize) {
        self.python.clear();
        self.full.clear();
        match self.codes.forget(address) {
            Forgotten::Everything => self.table.forget_all(),
            Forgotten::Keys(keys) => keys.into_iter().for_each(|key| self.table.forget(key)),
        }
    }

    /// What has the same addresses is not the same any more.
    fn code_replaced(&mut self) {
        self.replacements += 1;
        if self.replacements <= MOST_REPLACEMENTS {
            self.canonical.forget();
            self.paths.forget();
        } else if self.replacements == MOST_REPLACEMENTS + 1 {
            let text = format!(
                "more than {MOST_REPLACEMENTS} times a program file came to lie where another had been: \
                 from there on native frames of one may be shown as those of the other"
            );
            self.announce(&Record::Note { text });
        }
    }

    /// In a forked child, which begins a dump of its own.
    pub fn reset(&mut self) {
        self.table.forget_all();
        self.canonical.forget();
        self.paths.forget();
        self.last_path = 0;
        self.codes = Codes::new();
        self.python.clear();
        self.full.clear();
        self.line = Line::new();
        self.said_many = false;
        self.said_cut = false;
        self.replacements = 0;
    }
}

/// The frames that are kept of the stack at hand, outermost first.
fn kept<'a>(python: &'a PythonStack, full: &'a FullStack, extent: Extent) -> &'a [Frame] {
    if extent == Extent::Full { full.frames() } else { python.shown() }
}

/// A frame as a part of a canonical key.
fn word(frame: &Frame) -> u64 {
    match *frame {
        Frame::Native { pc } => pc,
        Frame::Python { code, instruction, .. } => {
            u64::from(code) << 32 | u64::from(instruction) | 1 << 63
        }
    }
}

/// A block that was watched is about to be freed: a code object dies.
#[cold]
pub fn code_freed(address: usize) {
    SITES.lock().forget_code(address);
}

/// Code may have died unseen: every code object is to be read again.
#[cold]
pub fn forget_codes() {
    let mut sites = SITES.lock();
    sites.codes.forget_addresses();
    sites.python.clear();
    sites.full.clear();
    sites.table.forget_all();
}

/// Program files went, or one lies where another one did (`replaced`): addresses of native code may mean
/// something else now, or do.
pub fn files_changed(replaced: bool) {
    let mut sites = SITES.lock();
    sites.table.forget_all();
    if replaced {
        sites.code_replaced();
    }
}
