//! Raw keys to sites: the part of the site table that takes no lock.

use core::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use pyshim_dump::record::Origin;

use crate::hash::mix;
use crate::sys;

/// The lock-free part: raw key to site.
struct RawTable {
    mask: usize,
    slots: *const [AtomicU64; 2],
}

static TABLE: AtomicPtr<RawTable> = AtomicPtr::new(core::ptr::null_mut());

/// Keys are in one of so many shards.
const SHARDS: usize = 1024;
/// Grow when keys of a shard are forgotten: what is remembered of an earlier era is not to be
/// believed. (Code that comes and goes must not have everybody look everything up again.)
static ERAS: [AtomicU32; SHARDS] = [const { AtomicU32::new(1) }; SHARDS];

/// The era of a shard.
#[inline(always)]
pub fn era(shard: usize) -> u32 {
    ERAS[shard & (SHARDS - 1)].load(Relaxed)
}

/// The shard of a key, and its era. To be asked before the key is looked up.
#[inline(always)]
pub fn shard_now(key: u64) -> (u16, u32) {
    let shard = (key >> 32) as u16 & (SHARDS - 1) as u16;
    (shard, era(shard as usize))
}

/// A key that was forgotten; its slot may be used again.
const FORGOTTEN: u64 = 1;

/// Makes a hash a key: neither empty nor forgotten.
#[inline(always)]
fn as_key(hash: u64) -> u64 {
    hash | 2
}

/// The key of a Python stack and a native path.
#[inline(always)]
pub fn key(python: u64, native: u64, origin: Origin) -> u64 {
    as_key(mix(mix(python, native), origin as u64))
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
/// Keys that are kept at once, some at the time of the forgetting: in 16 MiB.
const MOST_KEYS: usize = 1 << 19;

/// The table's one writer, behind the lock of the sites.
pub struct Writer {
    used: usize,
}

impl Writer {
    /// Of an empty table.
    pub const fn new() -> Writer {
        Writer { used: 0 }
    }

    /// Enters a key; `false` if there is no room.
    pub fn enter(&mut self, key: u64, site: u32) -> bool {
        let table = TABLE.load(Relaxed);
        // SAFETY: tables live until the end of the process once published.
        let current = unsafe { table.as_ref() };
        let capacity = current.map_or(0, |table| table.mask + 1);
        if self.used >= MOST_KEYS {
            // Whoever is still in use comes back.
            self.forget_all();
        } else if self.used * 2 >= capacity && !self.grow(current) {
            return false;
        }
        // SAFETY: as above; `grow` published one if there was none.
        if let Some(table) = unsafe { TABLE.load(Relaxed).as_ref() } {
            self.used += usize::from(table.insert(key, site));
        }
        true
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

    /// Forgets one key; its site stays.
    pub fn forget(&mut self, key: u64) {
        // SAFETY: tables live until the end of the process once published.
        if let Some(table) = unsafe { TABLE.load(Relaxed).as_ref() } {
            table.forget(key);
        }
        ERAS[shard_now(key).0 as usize].fetch_add(1, Release);
    }

    /// Forgets every raw key; the sites stay.
    pub fn forget_all(&mut self) {
        self.used = 0;
        // SAFETY: tables live until the end of the process once published.
        if let Some(table) = unsafe { TABLE.load(Relaxed).as_ref() } {
            table.clear();
        }
        ERAS.iter().for_each(|era| _ = era.fetch_add(1, Release));
    }
}
