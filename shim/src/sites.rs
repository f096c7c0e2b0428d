//! The site table: from a stack to its id.
//!
//! Two keys. The *raw* key hashes addresses as the hot walk meets them; it is
//! looked up without a lock and is only good while the code at those addresses
//! lives. The *canonical* key hashes what the frames mean, code object by
//! content; it decides which site a new raw key belongs to. When a code object
//! dies, the raw keys that passed through it are forgotten, so that another one
//! at its address starts afresh: a site is never mislabelled.
//!
//! Everything past a lookup that hits is the slow path, under one lock; it
//! happens once for each distinct stack.

use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering::Acquire, Ordering::Relaxed,
    Ordering::Release,
};

use std::collections::VecDeque;

use hashbrown::HashMap;
use pyshim_dump::layout::Lost;
use pyshim_dump::record::{self, Frame, Origin, Record};

use crate::guard::Guard;
use crate::hash::{self, mix};
use crate::native::{self, Anchor, Extent};
use crate::python::code;
use crate::python::walk::{self, PythonFrame, Top};
use crate::spin::SpinLock;
use crate::store::{self, STORE};
use crate::{collector, heap, life, live, sys};

/// Where blocks are counted whose stack found no room.
pub const NOWHERE: u32 = 0;

/// The lock-free part: raw key to site.
struct RawTable {
    mask: usize,
    slots: *const [AtomicU64; 2],
}

static TABLE: AtomicPtr<RawTable> = AtomicPtr::new(core::ptr::null_mut());

/// The origin of each site, as a number, for whoever must not take a lock.
pub static ORIGINS: [AtomicU8; store::MAX_SITES as usize] =
    [const { AtomicU8::new(0) }; store::MAX_SITES as usize];

/// A key that was forgotten; its slot may be used again.
const FORGOTTEN: u64 = 1;

/// Makes a hash a key: neither empty nor forgotten.
#[inline(always)]
pub fn as_key(hash: u64) -> u64 {
    hash | 2
}

/// The site of a raw key that was seen before.
#[inline(always)]
pub fn find(key: u64) -> Option<u32> {
    let table = TABLE.load(Acquire);
    if table.is_null() {
        return None;
    }
    // SAFETY: tables live until the end of the process once published.
    let table = unsafe { &*table };
    let mut index = key as usize >> 2;
    loop {
        // SAFETY: the mask keeps the index inside the table's slots.
        let slot = unsafe { &*table.slots.add(index & table.mask) };
        let found = slot[0].load(Acquire);
        if found == key {
            let site = slot[1].load(Acquire) as u32;
            // The slot may have been given to another key in between; then define it again.
            return (slot[0].load(Relaxed) == key).then_some(site);
        }
        // A table is never more than half full, so there is an empty slot.
        if found == 0 {
            return None;
        }
        index += 1;
    }
}

impl RawTable {
    fn new(slots: usize) -> Option<RawTable> {
        let memory = sys::reserve(slots * size_of::<[AtomicU64; 2]>()).ok()?;
        Some(RawTable { mask: slots - 1, slots: memory.cast_const().cast() })
    }

    fn slots(&self) -> &[[AtomicU64; 2]] {
        // SAFETY: `new` mapped that many zeroed slots, for good.
        unsafe { core::slice::from_raw_parts(self.slots, self.mask + 1) }
    }

    /// Enters a key that is not there. `true` if that took an empty slot.
    fn insert(&self, key: u64, site: u32) -> bool {
        let slots = self.slots();
        let mut index = key as usize >> 2;
        loop {
            let slot = &slots[index & self.mask];
            let found = slot[0].load(Relaxed);
            if matches!(found, 0 | FORGOTTEN) {
                slot[1].store(u64::from(site), Release);
                slot[0].store(key, Release);
                return found == 0;
            }
            index += 1;
        }
    }

    fn clear(&self) {
        self.slots().iter().for_each(|slot| slot[0].store(0, Release));
    }

    fn forget(&self, key: u64) {
        let slots = self.slots();
        let mut index = key as usize >> 2;
        loop {
            let slot = &slots[index & self.mask];
            match slot[0].load(Relaxed) {
                0 => return,
                found if found == key => return slot[0].store(FORGOTTEN, Release),
                _ => index += 1,
            }
        }
    }
}

const FIRST_SLOTS: usize = 4096;
/// A code object in more raw keys than this is not worth a list of them.
const MOST_KEYS: usize = 32;

/// From so many sites on, native frames no longer multiply the sites of Python blocks.
const MANY_SITES: u32 = 120_000;
/// Definitions that may wait for the collector.
const MOST_WAITING: usize = 4096;

/// A code object at an address.
struct Known {
    id: u32,
    /// Raw keys that pass through it; full: too many to list.
    keys: Vec<u64>,
}

/// The part behind the lock.
pub struct Sites {
    used: usize,
    codes: Option<Maps>,
    /// Definitions that the channel had no room for.
    backlog: VecDeque<Record>,
    native: native::Stack,
    python: Vec<PythonFrame>,
    /// Code objects of the last stack by level from the outermost, with their ids; zero where a
    /// look is needed.
    outer: Vec<(usize, u32)>,
    said_many: bool,
}

struct Maps {
    /// Code objects alive, by address.
    by_address: HashMap<usize, Known>,
    /// Code ids by content.
    by_content: HashMap<u64, u32>,
    /// Text ids by content.
    texts: HashMap<u64, u32>,
    /// Site ids by canonical key.
    canonical: HashMap<u64, u32>,
}

// SAFETY: nothing in it is tied to a thread.
unsafe impl Send for Sites {}

/// See [`Sites`].
pub static SITES: SpinLock<Sites> = SpinLock::new(Sites {
    used: 0,
    codes: None,
    backlog: VecDeque::new(),
    native: native::Stack::new(),
    python: Vec::new(),
    outer: Vec::new(),
    said_many: false,
});

/// Two interpreters with a lock each were seen: "under the lock" no longer means alone.
pub static SEVERAL_LOCKS: AtomicBool = AtomicBool::new(false);

/// Where a block is being allocated.
#[derive(Clone, Copy)]
pub struct Place {
    /// The native stack.
    pub anchor: Anchor,
    /// The Python stack.
    pub top: Option<Top>,
    /// How much of the native stack is recorded.
    pub extent: Extent,
    /// The allocator.
    pub origin: Origin,
}

/// The site of a stack whose raw key is new.
#[cold]
#[inline(never)]
pub fn define(guard: &Guard, place: &Place, key: u64) -> u32 {
    life::on_new_site(guard, place.anchor, place.top.map(|top| top.interpreter));
    if let Some(top) = place.top {
        walk::remember(top.tstate);
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
        let truncated = self.collect(guard, &place);
        let frames = self.frames(place.extent, key);
        let mut canonical = mix(place.origin as u64, frames.len() as u64);
        for frame in &frames {
            canonical = match *frame {
                Frame::Native { pc } => mix(canonical, pc),
                Frame::Python { code, instruction, .. } => {
                    mix(canonical, u64::from(code) << 32 | u64::from(instruction) | 1 << 63)
                }
            };
        }
        let known = self.maps().canonical.get(&canonical).copied();
        let site = match known {
            Some(site) => site,
            None => {
                if !STORE.lock().make_room() {
                    store::lose(Lost::Sites);
                    return NOWHERE;
                }
                let site = store::header().site_count.fetch_add(1, Release);
                if let Some(slot) = ORIGINS.get(site as usize) {
                    slot.store(place.origin as u8, Relaxed);
                }
                self.maps().canonical.insert(canonical, site);
                self.announce(Record::Site { id: site, origin: place.origin, truncated, frames });
                site
            }
        };
        self.remember(key, site);
        site
    }

    fn say_many(&mut self) {
        if !self.said_many {
            self.said_many = true;
            let text = format!(
                "more than {MANY_SITES} stacks: from there on new stacks of Python blocks have no native frames"
            );
            self.announce(Record::Note { text });
        }
    }

    fn maps(&mut self) -> &mut Maps {
        self.codes.get_or_insert_with(|| Maps {
            by_address: HashMap::new(),
            by_content: HashMap::new(),
            texts: HashMap::new(),
            canonical: HashMap::new(),
        })
    }

    /// Gathers both stacks. `true` if frames were left out.
    fn collect(&mut self, guard: &Guard, place: &Place) -> bool {
        let mut truncated = false;
        self.python.clear();
        if let Some(top) = place.top {
            let python = &mut self.python;
            truncated |= top.collect(|frame| python.push(frame));
        }
        if place.extent != Extent::Off {
            let python = place.top.filter(|_| place.extent == Extent::Leaf);
            let stop = native::Stop::new(place.anchor, python);
            native::unwind(guard, place.anchor, stop, &mut self.native);
            truncated |= self.native.truncated;
        }
        truncated
    }

    /// Brings both stacks into one, innermost first: a frame of the evaluation
    /// loop gives way to the Python frames that it ran.
    fn frames(&mut self, extent: Extent, key: u64) -> Vec<Frame> {
        let mut python = Vec::with_capacity(self.python.len());
        let depth = self.python.len();
        for index in 0..depth {
            let Some(&frame) = self.python.get(index) else { break };
            // The key passes through code that is not shown, too.
            let code = self.code_id_at(depth - 1 - index, frame.code, key);
            let shown = Frame::Python { code, instruction: frame.instruction, entry: frame.entry };
            python.push((frame, shown));
        }
        let show = |run: &[(PythonFrame, Frame)], frames: &mut Vec<Frame>| {
            let complete = run.iter().filter(|(frame, _)| !frame.incomplete);
            frames.extend(complete.map(|&(_, shown)| shown));
        };
        let native = if extent == Extent::Off { &[] } else { self.native.frames() };
        let mut frames = Vec::with_capacity(native.len() + python.len());
        if extent != Extent::Full {
            // Every native frame lies above the innermost Python frame.
            frames.extend(native.iter().map(|frame| Frame::Native { pc: frame.pc }));
            show(&python, &mut frames);
            return frames;
        }
        let start = self.native_start();
        // Where the next loop that Python frames ran in keeps its own frame.
        let boundary_of = |rest: &[(PythonFrame, Frame)]| {
            rest.iter().map(|(frame, _)| frame.boundary).find(|&at| at != 0)
        };
        let mut rest = python.as_slice();
        let mut boundary = boundary_of(rest);
        for frame in native {
            // Where the loop is split into several functions, its frame on the stack still tells.
            let passed = boundary.is_some_and(|at| at > start && at < frame.slot);
            if frame.evaluation || passed {
                let ends = |(frame, _): &(PythonFrame, Frame)| frame.entry;
                let count = rest.iter().position(ends).map_or(rest.len(), |at| at + 1);
                let (ran, further) = rest.split_at(count);
                show(ran, &mut frames);
                rest = further;
                boundary = boundary_of(rest);
            }
            if !frame.evaluation {
                frames.push(Frame::Native { pc: frame.pc });
            }
        }
        show(rest, &mut frames);
        frames
    }

    fn native_start(&self) -> usize {
        self.native.frames().first().map_or(usize::MAX, |frame| frame.slot)
    }

    /// The id of the code object that runs `level` frames from the outermost. The outer frames are
    /// mostly those of the stack before, and run code of which no more keys are listed.
    fn code_id_at(&mut self, level: usize, address: usize, key: u64) -> u32 {
        if let Some(&(known, id)) = self.outer.get(level)
            && known == address
        {
            return id;
        }
        let (id, listed) = self.code_id(address, key);
        if self.outer.len() <= level {
            self.outer.resize(level + 1, (0, 0));
        }
        if let Some(place) = self.outer.get_mut(level) {
            *place = if listed { (0, 0) } else { (address, id) };
        }
        id
    }

    /// The id of a code object; `key` passes through it. Also whether that is listed for the day
    /// when the code dies.
    fn code_id(&mut self, address: usize, key: u64) -> (u32, bool) {
        let trusted = crate::python::hooks::settled();
        if let Some(known) = self.maps().by_address.get_mut(&address).filter(|_| trusted) {
            if known.keys.len() < MOST_KEYS && known.keys.last() != Some(&key) {
                known.keys.push(key);
            }
            return (known.id, known.keys.len() < MOST_KEYS);
        }
        let id = self.read_code(address);
        // From now on its end must be noticed.
        live::watch(address);
        self.maps().by_address.insert(address, Known { id, keys: vec![key] });
        (id, true)
    }

    fn read_code(&mut self, address: usize) -> u32 {
        let Some(layout) = crate::python::walk::layout() else { return 0 };
        // SAFETY: the walk found a frame of this thread that runs this code object, so it is alive.
        let read = unsafe { code::read(layout, address) };
        let read = read.unwrap_or_else(|| {
            store::lose(Lost::Code);
            code::Code { file: "?".into(), name: "?".into(), first_line: 0, table: Vec::new() }
        });
        let mut content = hash::bytes(u64::from(read.first_line), read.file.as_bytes());
        content = hash::bytes(content, read.name.as_bytes());
        content = hash::bytes(content, &read.table);
        let maps = self.maps();
        if let Some(&id) = maps.by_content.get(&content) {
            return id;
        }
        let id = maps.by_content.len() as u32;
        maps.by_content.insert(content, id);
        let file = self.text_id(read.file);
        self.announce(Record::Code(record::Code {
            id,
            file,
            name: read.name,
            first_line: read.first_line,
            table_kind: layout.line_table as u8,
            table: read.table,
        }));
        id
    }

    fn text_id(&mut self, text: String) -> u32 {
        let key = hash::bytes(1, text.as_bytes());
        let texts = &mut self.maps().texts;
        if let Some(&id) = texts.get(&key) {
            return id;
        }
        let id = texts.len() as u32;
        texts.insert(key, id);
        self.announce(Record::Text { id, text });
        id
    }

    /// Hands a definition to the collector. What the channel has no room for
    /// waits here, in order; nothing blocks and nothing is dropped.
    pub fn announce(&mut self, record: Record) {
        if !self.backlog.is_empty() {
            self.backlog.push_back(record);
        } else if let Err(record) = collector::send(record) {
            self.backlog.push_back(record);
        }
        // Nobody drains: do it here.
        if self.backlog.len() >= MOST_WAITING {
            self.write_out(&mut STORE.lock());
        }
    }

    /// Brings everything that is under way into the log.
    pub fn write_out(&mut self, store: &mut store::Store) {
        collector::drain(store);
        while !self.backlog.is_empty() && store.exists() {
            while let Some(record) = self.backlog.pop_front() {
                if let Err(record) = collector::send(record) {
                    self.backlog.push_front(record);
                    break;
                }
            }
            collector::drain(store);
        }
    }

    fn remember(&mut self, key: u64, site: u32) {
        let table = TABLE.load(Relaxed);
        // SAFETY: tables live until the end of the process once published.
        let current = unsafe { table.as_ref() };
        let capacity = current.map_or(0, |table| table.mask + 1);
        if self.used * 2 >= capacity && !self.grow(current) {
            store::lose(Lost::Sites);
            return;
        }
        // SAFETY: as above; `grow` published one if there was none.
        if let Some(table) = unsafe { TABLE.load(Relaxed).as_ref() } {
            self.used += usize::from(table.insert(key, site));
        }
    }

    /// Makes room: by sweeping out forgotten keys, or by publishing a larger
    /// table. Readers may still be in the old one, so it stays; one that misses
    /// a key meanwhile comes here and finds it under the lock.
    fn grow(&mut self, current: Option<&RawTable>) -> bool {
        let old = current.map(RawTable::slots).unwrap_or_default();
        let mut alive: Vec<(u64, u32)> = Vec::new();
        for slot in old {
            let key = slot[0].load(Relaxed);
            if key > FORGOTTEN {
                alive.push((key, slot[1].load(Relaxed) as u32));
            }
        }
        self.used = alive.len();
        match current {
            Some(table) if alive.len() * 4 <= old.len() => {
                table.clear();
                alive.iter().for_each(|&(key, site)| _ = table.insert(key, site));
            }
            _ => {
                let Some(table) = RawTable::new((old.len() * 2).max(FIRST_SLOTS)) else {
                    return false;
                };
                alive.iter().for_each(|&(key, site)| _ = table.insert(key, site));
                TABLE.store(Box::into_raw(Box::new(table)), Release);
            }
        }
        true
    }

    /// The code object at `address` is about to be freed.
    fn forget_code(&mut self, address: usize) {
        self.outer.clear();
        let Some(known) = self.maps().by_address.remove(&address) else { return };
        if known.keys.len() >= MOST_KEYS {
            self.forget_all();
            return;
        }
        // SAFETY: tables live until the end of the process once published.
        if let Some(table) = unsafe { TABLE.load(Relaxed).as_ref() } {
            for key in known.keys {
                table.forget(key);
            }
        }
    }

    /// Forgets every raw key; the sites stay.
    fn forget_all(&mut self) {
        self.used = 0;
        // SAFETY: tables live until the end of the process once published.
        if let Some(table) = unsafe { TABLE.load(Relaxed).as_ref() } {
            table.clear();
        }
    }

    /// In a forked child, which begins a dump of its own.
    pub fn reset(&mut self) {
        self.forget_all();
        self.codes = None;
        self.outer.clear();
        self.said_many = false;
        self.backlog = VecDeque::new();
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
    sites.maps().by_address.clear();
    sites.outer.clear();
    sites.forget_all();
}

/// Program files changed place: addresses of native code may mean something else now.
pub fn forget_raw_keys() {
    SITES.lock().forget_all();
}
