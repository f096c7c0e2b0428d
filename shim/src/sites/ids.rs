//! Ids of things that are told apart by a hash.
//!
//! Nearly every look ends in a cache line that lies in memory, so whoever will look says so beforehand
//! ([`Ids::expect`]) and does something else meanwhile. That is why it is a table of our own. A slot is
//! one small word: the id, and of the key what its place in the table does not tell; who finds that
//! looks at the whole key. It grows in place: no page is touched for a smaller table first.

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use crate::store::MAX_SITES;
use crate::sys;

/// See the module.
pub struct Ids {
    memory: Option<Memory>,
    /// So many slots are in use: a power of two, or none. No more than three quarters are full.
    slots: usize,
    full: usize,
}

/// Ids are below this.
pub const MOST: u32 = MAX_SITES;
const _: () = assert!(MOST.is_power_of_two());

const FIRST_SLOTS: usize = 1 << 10;
const MOST_SLOTS: usize = 2 * MOST as usize;

/// What there is room for; what is not in use is zero, and mostly not touched.
#[repr(C)]
struct Tables {
    /// The keys by id.
    keys: [u64; MOST as usize],
    slots: [u32; MOST_SLOTS],
}

/// Tables in a mapping of their own.
struct Memory(*mut Tables);

// SAFETY: the mapping belongs to whoever has this.
unsafe impl Send for Memory {}

impl Memory {
    fn new() -> Option<Memory> {
        sys::reserve(size_of::<Tables>()).ok().map(|at| Memory(at.cast()))
    }

    fn tables(&self) -> &Tables {
        // SAFETY: a mapping of this size, at the start of a page, for which zero is valid; it is this
        // one's alone, which is borrowed.
        unsafe { &*self.0 }
    }

    fn tables_mut(&mut self) -> &mut Tables {
        // SAFETY: as in `tables`.
        unsafe { &mut *self.0 }
    }

    fn clear(&mut self) -> bool {
        // SAFETY: the mapping is ours, and borrowed here alone.
        unsafe { sys::map_zero_over(self.0.cast(), size_of::<Tables>()).is_ok() }
    }
}

/// What a slot has of a key: its upper bits, for it is placed by its lower ones.
fn tag(key: u64) -> u32 {
    (key >> 32) as u32 & !(MOST - 1)
}

impl Ids {
    /// None given.
    pub const fn new() -> Ids {
        Ids { memory: None, slots: 0, full: 0 }
    }

    /// Has the place of a key come from memory.
    pub fn expect(&self, key: u64) {
        if let Some((tables, mask)) = self.tables() {
            let place = tables.slots.as_ptr().wrapping_add(key as usize & mask);
            // SAFETY: a prefetch reads nothing, wherever it points.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
        }
    }

    /// The id of what has this key.
    pub fn find(&self, key: u64) -> Option<u32> {
        let (tables, mask) = self.tables()?;
        let mut index = key as usize;
        loop {
            let slot = *tables.slots.get(index & mask)?;
            if slot == 0 {
                return None;
            }
            let id = slot & (MOST - 1);
            if slot & !(MOST - 1) == tag(key) && tables.keys.get(id as usize) == Some(&key) {
                return Some(id);
            }
            index += 1;
        }
    }

    fn tables(&self) -> Option<(&Tables, usize)> {
        Some((self.memory.as_ref()?.tables(), self.slots.checked_sub(1)?))
    }

    /// Has what has this key, and no id so far, found by the id that is given: one above all that were
    /// given, and below [`MOST`]. (Without memory it is not found.)
    pub fn enter(&mut self, key: u64, id: u32) {
        if self.memory.is_none() {
            self.memory = Memory::new();
        }
        let Some(memory) = &mut self.memory else { return };
        let tables = memory.tables_mut();
        let Some(place) = tables.keys.get_mut(id as usize) else { return };
        *place = key;
        self.full += 1;
        if self.full * 4 <= self.slots * 3 {
            return tables.put(self.slots, key, id);
        }
        tables.slots.get_mut(..self.slots).unwrap_or_default().fill(0);
        let old = self.slots;
        self.slots = (old * 2).clamp(FIRST_SLOTS, MOST_SLOTS);
        // Those that are new will be in use all over.
        let more = tables.slots.get(old..self.slots).unwrap_or_default();
        sys::take_pages(more.as_ptr().cast(), size_of_val(more));
        // (What was forgotten has no key, nor have ids that were left out.)
        for id in 1..=id {
            if let Some(&key) = tables.keys.get(id as usize).filter(|key| **key != 0) {
                tables.put(self.slots, key, id);
            }
        }
    }

    /// What was given is found no more.
    pub fn forget(&mut self) {
        if let Some(memory) = &mut self.memory
            && !memory.clear()
        {
            // (What was there stays, and nobody looks at it.)
            self.memory = None;
        }
        (self.slots, self.full) = (0, 0);
    }
}

impl Tables {
    /// Puts an id into the first empty slot from its place on.
    fn put(&mut self, slots: usize, key: u64, id: u32) {
        let mut index = key as usize;
        while let Some(slot) = self.slots.get_mut(index & (slots - 1)) {
            if *slot == 0 {
                *slot = tag(key) | id;
                return;
            }
            index += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::mix;

    #[test]
    fn ids_are_found_by_their_keys() {
        let mut ids = Ids::new();
        let key = |id: u32| mix(u64::from(id), 0);
        assert_eq!(ids.find(key(1)), None);
        for id in 1..20_000 {
            ids.expect(key(id));
            assert_eq!(ids.find(key(id)), None);
            ids.enter(key(id), id);
        }
        assert!((1..20_000).all(|id| ids.find(key(id)) == Some(id)));
        // What differs where it is placed, or in its tag, or elsewhere, is another.
        assert!([0, 20, 31, 40, 63].iter().all(|bit| ids.find(key(7) ^ 1 << bit).is_none()));
        ids.forget();
        assert!((1..20_000).all(|id| ids.find(key(id)).is_none()));
        ids.enter(key(3), 20_000);
        assert_eq!(ids.find(key(3)), Some(20_000));
        // Ids may be left out, and all have room.
        for id in 30_000..MOST {
            ids.enter(key(id), id);
        }
        assert!((30_000..MOST).all(|id| ids.find(key(id)) == Some(id)));
    }
}
