//! Raw keys to sites: the part of the site table that takes no lock.
//!
//! A slot is one word: the site, and of the key what its place in the table does not tell. So eight
//! lie on a cache line, and a reader has a slot whole or not at all. The lower bits, which a key is
//! placed by, are kept beside them for whoever makes the table larger.
//!
//! All keys of a Python stack belong to one line, so it can come from memory ([`expect`]) before the
//! native path is known. A stack with many of them has the others elsewhere.

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use core::sync::atomic::{
    AtomicPtr, AtomicU32, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release,
};

use pyshim_dump::record::Origin;

use crate::hash::mix;
use crate::live::SITE_BITS;
use crate::sys;

/// The lock-free part: raw key to site.
struct RawTable {
    mask: usize,
    slots: *const AtomicU64,
    /// The lower bits of the keys in the slots; the writer's alone.
    lows: *const AtomicU32,
}

static TABLE: AtomicPtr<RawTable> = AtomicPtr::new((&raw const EMPTY).cast_mut());

/// What nobody has entered anything into yet; nobody does.
static EMPTY: RawTable =
    RawTable { mask: 0, slots: &raw const NOTHING, lows: core::ptr::dangling() };
static NOTHING: AtomicU64 = AtomicU64::new(0);

// SAFETY: slots are atomic; the others are written by the one writer, behind its lock.
unsafe impl Sync for RawTable {}

/// The table that readers use.
#[inline(always)]
fn table() -> &'static RawTable {
    // SAFETY: tables live until the end of the process once published.
    unsafe { &*TABLE.load(Acquire) }
}

/// Keys are in one of so many shards.
const SHARDS: usize = 256;
/// Grow when keys of a shard are forgotten: what is remembered of an earlier era is not to be
/// believed. (Code that comes and goes must not have everybody look everything up again.)
static ERAS: [AtomicU32; SHARDS] = [const { AtomicU32::new(1) }; SHARDS];

/// The era of a shard.
#[inline(always)]
pub fn era(shard: u8) -> u32 {
    ERAS[shard as usize].load(Relaxed)
}

/// The shard of a key, and its era. To be asked before the key is looked up.
#[inline(always)]
pub fn shard_now(key: u64) -> (u8, u32) {
    let shard = (key >> 32) as u8;
    (shard, era(shard))
}

/// A key that was forgotten; its slot may be used again. (No key's slot is that: [`as_key`].)
const FORGOTTEN: u64 = 1;

/// The bits of a slot that are a site; the others are those of its key.
const SITE: u64 = (1 << SITE_BITS) - 1;

/// Makes a hash a key: neither empty nor forgotten.
#[inline(always)]
fn as_key(hash: u64) -> u64 {
    hash | 1 << 63
}

/// What a key has of the Python stack and the allocator.
#[inline(always)]
pub fn part(python: u64, origin: Origin) -> u64 {
    python.wrapping_add((origin as u64) << 60)
}

/// The key of a Python stack and a native path.
#[inline(always)]
pub fn key(python: u64, native: u64, origin: Origin) -> u64 {
    let own = mix(part(python, origin), native) & !(SITE & !IN_LINE);
    as_key(own | line(python) & SITE)
}

/// What a key's place on its line is told by.
const IN_LINE: u64 = (1 << IN_LINE_BITS) - 1;
const IN_LINE_BITS: u32 = (64 / size_of::<AtomicU64>()).ilog2();
/// So many slots of its line are looked at before a key is looked for elsewhere.
const NEAR: u64 = 4;

/// The first slot of the line that keys of a Python stack belong to, in a table as large as can be.
#[inline(always)]
fn line(python: u64) -> u64 {
    // (All frames change the upper bits of their polynomial.)
    python >> 40 << IN_LINE_BITS
}

/// The slots of its line where a key may be, in order.
#[inline(always)]
fn near(key: u64) -> impl Iterator<Item = usize> {
    (0..NEAR).map(move |at| (key & !IN_LINE | (key + at) & IN_LINE) as usize)
}

/// Where it may be if others are there. (What a slot lacks of its key has to tell the place, here too.)
#[inline(always)]
fn far(key: u64) -> impl Iterator<Item = usize> {
    ((key ^ key >> SITE_BITS) & SITE) as usize..
}

/// Has the line come from memory that keys of a Python stack belong to.
#[inline(always)]
pub fn expect(python: u64) {
    let table = table();
    let slot = table.slots.wrapping_add(line(python) as usize & table.mask);
    // SAFETY: no address is wrong for it; every processor of this architecture has the instruction.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(slot.cast()) };
}

/// The site of a raw key that was seen before.
#[inline(always)]
pub fn find(key: u64) -> Option<u32> {
    let table = table();
    for index in near(key) {
        let slot = table.slot(index);
        if (slot ^ key) & !SITE == 0 {
            return Some((slot & SITE) as u32);
        }
        if slot == 0 {
            return None;
        }
    }
    find_far(table, key)
}

#[inline(never)]
fn find_far(table: &RawTable, key: u64) -> Option<u32> {
    // A table is never more than half full, so there is an empty slot.
    let slots = far(key).map(|index| table.slot(index));
    let mut found = slots.skip_while(|&slot| slot != 0 && (slot ^ key) & !SITE != 0);
    found.next().filter(|&slot| slot != 0).map(|slot| (slot & SITE) as u32)
}

impl RawTable {
    fn new(slots: usize) -> Option<RawTable> {
        let each = size_of::<AtomicU64>() + size_of::<AtomicU32>();
        let memory = sys::reserve_taken(slots * each).ok()?;
        // (Past the slots, in the same mapping.)
        let lows = memory.wrapping_add(slots * size_of::<AtomicU64>());
        let (slots_at, lows) = (memory.cast_const().cast(), lows.cast_const().cast());
        Some(RawTable { mask: slots - 1, slots: slots_at, lows })
    }

    /// A slot's word; the index may have more bits than the table.
    #[inline(always)]
    fn slot(&self, index: usize) -> u64 {
        // SAFETY: the mask keeps the index inside the table's slots.
        unsafe { &*self.slots.add(index & self.mask) }.load(Acquire)
    }

    /// How many slots it has: none, where nothing may be entered.
    fn len(&self) -> usize {
        if self.mask == EMPTY.mask { 0 } else { self.mask + 1 }
    }

    fn slots(&self) -> &[AtomicU64] {
        // SAFETY: `new` mapped that many zeroed slots, for good.
        unsafe { core::slice::from_raw_parts(self.slots, self.len()) }
    }

    fn lows(&self) -> &[AtomicU32] {
        // SAFETY: as in `slots`.
        unsafe { core::slice::from_raw_parts(self.lows, self.len()) }
    }

    /// Enters a key that is not there. `true` if that took an empty slot.
    fn insert(&self, key: u64, site: u32) -> bool {
        let (slots, lows) = (self.slots(), self.lows());
        for at in near(key).chain(far(key)).map(|index| index & self.mask) {
            let found = slots[at].load(Relaxed);
            if matches!(found, 0 | FORGOTTEN) {
                lows[at].store((key & SITE) as u32, Relaxed);
                slots[at].store(key & !SITE | u64::from(site), Release);
                return found == 0;
            }
        }
        false
    }

    /// The keys that are there, with their sites.
    fn keys(&self) -> impl Iterator<Item = (u64, u32)> {
        let both = self.slots().iter().zip(self.lows());
        both.map(|(slot, low)| (slot.load(Relaxed), low))
            .filter(|&(slot, _)| slot > FORGOTTEN)
            .map(|(slot, low)| (slot & !SITE | u64::from(low.load(Relaxed)), (slot & SITE) as u32))
    }

    fn clear(&self) {
        self.slots().iter().for_each(|slot| slot.store(0, Release));
    }

    fn forget(&self, key: u64) {
        for index in near(key).chain(far(key)) {
            let Some(slot) = self.slots().get(index & self.mask) else { return };
            match slot.load(Relaxed) {
                0 => return,
                found if (found ^ key) & !SITE == 0 => return slot.store(FORGOTTEN, Release),
                _ => {}
            }
        }
    }
}

const FIRST_SLOTS: usize = 4096;
/// Keys that are kept at once, some at the time of the forgetting: in 12 MiB.
const MOST_KEYS: usize = 1 << 19;
// What a key is placed by is no more than what its slot lacks of it.
const _: () = assert!(2 * MOST_KEYS <= 1 << SITE_BITS);

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
        if self.used >= MOST_KEYS {
            // Whoever is still in use comes back.
            self.forget_all();
        } else if self.used * 2 >= table().len() && !self.grow() {
            return false;
        }
        self.used += usize::from(table().insert(key, site));
        true
    }

    /// Makes room: by sweeping out forgotten keys, or by publishing a larger
    /// table. Readers may still be in the old one, so it stays; one that misses
    /// a key meanwhile comes here and finds it under the lock.
    fn grow(&mut self) -> bool {
        let current = table();
        let alive: Vec<(u64, u32)> = current.keys().collect();
        self.used = alive.len();
        if current.len() > 0 && alive.len() * 4 <= current.len() {
            current.clear();
            alive.iter().for_each(|&(key, site)| _ = current.insert(key, site));
            return true;
        }
        let Some(larger) = RawTable::new((current.len() * 2).max(FIRST_SLOTS)) else {
            return false;
        };
        alive.iter().for_each(|&(key, site)| _ = larger.insert(key, site));
        TABLE.store(Box::into_raw(Box::new(larger)), Release);
        true
    }

    /// Forgets one key; its site stays.
    pub fn forget(&mut self, key: u64) {
        table().forget(key);
        ERAS[shard_now(key).0 as usize].fetch_add(1, Release);
    }

    /// Forgets every raw key; the sites stay.
    pub fn forget_all(&mut self) {
        self.used = 0;
        table().clear();
        ERAS.iter().for_each(|era| _ = era.fetch_add(1, Release));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because the table is one for the process.
    #[test]
    fn keys_come_back_whole() {
        // (What a key is made of are hashes.)
        // Stacks with one native path, with some, and one with thousands.
        let of = |at: u64| match at % 4 {
            0 => key(mix(0, at), mix(1, at / 7), Origin::Native),
            1 | 2 => key(mix(0, at / 28), mix(1, at), Origin::PythonSmall),
            _ => key(0, mix(1, at), Origin::Native),
        };
        let keys: Vec<u64> = (0..20_000).map(of).collect();
        let mut writer = Writer::new();
        for (site, &key) in keys.iter().enumerate() {
            assert_eq!(find(key), None);
            assert!(writer.enter(key, site as u32));
        }
        // The table grew several times meanwhile.
        assert!(keys.iter().enumerate().all(|(site, &key)| find(key) == Some(site as u32)));
        // Keys that differ where they are placed, or beyond that, are others.
        assert_eq!(find(keys[7] ^ 1), None);
        assert_eq!(find(keys[7] ^ 1 << 40), None);
        // So do keys that are not on their line, for that one is full.
        assert_eq!(find(keys[19_999] ^ 1 << 12), None);

        keys.iter().step_by(2).for_each(|&key| writer.forget(key));
        let found = |site: usize| (site % 2 == 1).then_some(site as u32);
        assert!(keys.iter().enumerate().all(|(site, &key)| find(key) == found(site)));
        writer.forget_all();
        assert!(keys.iter().all(|&key| find(key).is_none()));
    }
}
