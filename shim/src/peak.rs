//! The peak of live memory, with what every site held then.
//!
//! A running total that each thread added to at once would be a cache line that
//! all threads fight for. So a thread keeps what it added and took to itself
//! until the difference is 1/512 of the total (shared among the threads), and the
//! total is known within that. Two countdowns tell when to look at the difference.
//! When the total starts to fall from a new maximum, before the free that makes it
//! fall is counted, all sites are noted: growth alone never pays. A new maximum is
//! noted if it is 1/200 above the last one noted, and the fall is seen at 1/400: what
//! is noted lies within 1 % of the true peak. Where that would take more than a share
//! of the time, as where a program starts and its sites are nearly as many as its
//! blocks, it is noted if it is 1/25 above.

use core::cell::Cell;
use core::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::Release,
};

use crate::guard::{Known, Thread};
use crate::spin::SpinLock;
use crate::store::Moment;
use crate::{life, store};

/// Live bytes of all sites, within the threads' pending ones.
static TOTAL: AtomicI64 = AtomicI64::new(0);
/// Highest total seen.
static HIGHEST: AtomicI64 = AtomicI64::new(0);
/// Whether the highest total is to be noted when it falls.
static ARMED: AtomicBool = AtomicBool::new(false);
/// The total that was noted last.
static NOTED: AtomicI64 = AtomicI64::new(0);
/// Bytes that a thread may keep to itself.
static SHARE: AtomicU64 = AtomicU64::new(SMALLEST_SHARE);
/// Threads that record.
pub static THREADS: AtomicU32 = AtomicU32::new(0);

/// Since the start: from when on small rises are noted again.
static NOT_BEFORE: AtomicU64 = AtomicU64::new(0);
/// Noting takes one part of so many of the time.
const TIME_SHARE: u64 = 100;

static NOTING: SpinLock<()> = SpinLock::new(());

/// Where little is live, threads that come and go must not meet in the total at every block.
const SMALLEST_SHARE: u64 = 16 << 10;

/// Live bytes, but for what threads keep to themselves.
pub fn live_bytes() -> u64 {
    TOTAL.load(Relaxed).max(0) as u64
}

/// Counts `size` bytes more.
#[inline(always)]
pub fn grow(thread: &Thread, size: usize) {
    if !count_down(&thread.may_grow, size) && !keep_on(thread, size as i64) {
        hand_over(thread, size as i64, 0);
    }
}

/// Counts `size` bytes less; called before the block leaves its site's counters.
#[inline(always)]
pub fn shrink(thread: &Thread, size: usize) {
    if !shrink_simply(thread, size) && !keep_on(thread, -(size as i64)) {
        hand_over(thread, 0, size as i64);
    }
}

/// The same where there is no more to it; `false`: nothing was done. (It calls nothing, so that a
/// function which does this, and goes on to another, has no register to save.)
#[inline(always)]
pub fn shrink_simply(thread: &Thread, size: usize) -> bool {
    count_down(&thread.may_shrink, size)
}

#[inline(always)]
fn count_down(countdown: &Cell<usize>, size: usize) -> bool {
    let (left, over) = countdown.get().overflowing_sub(size);
    if !over {
        countdown.set(left);
    }
    !over
}

/// One of the countdowns is over. Where what came and what went nearly balance, with `change` more,
/// the thread keeps that and begins anew: most blocks go soon after they came, and the total is a
/// cache line of all threads. `false`: nothing was done.
#[cold]
#[inline(never)]
fn keep_on(thread: &Thread, change: i64) -> bool {
    let share = SHARE.load(Relaxed) as i64;
    let kept = kept(thread).wrapping_add(change);
    let left = share - kept.abs();
    // A thread of which nothing is known yet must be; of one that ends nobody would take it.
    if thread.known.get() != Known::In || change.abs() > share || left < share / 4 {
        return false;
    }
    thread.may_grow.set((left - kept.min(0)) as usize);
    thread.may_shrink.set((left + kept.max(0)) as usize);
    true
}

/// What the thread keeps to itself: no more than the share.
fn kept(thread: &Thread) -> i64 {
    thread.may_shrink.get().wrapping_sub(thread.may_grow.get()) as i64
}

/// The same, which it does not any more.
fn taken_from(thread: &Thread) -> i64 {
    let kept = kept(thread);
    thread.may_shrink.set(0);
    thread.may_grow.set(0);
    kept
}

/// Adds what the thread kept to the total, and `coming` bytes; `leaving` bytes are about to go.
#[cold]
#[inline(never)]
fn hand_over(thread: &Thread, coming: i64, leaving: i64) {
    life::know_thread(thread);
    let pending = taken_from(thread) + coming;
    let total = TOTAL.fetch_add(pending, Relaxed) + pending;
    let highest = HIGHEST.fetch_max(total, Relaxed).max(total);
    if total >= highest {
        store::header().peak_seen.fetch_max(total.max(0) as u64, Relaxed);
        let threads = u64::from(THREADS.load(Relaxed).max(1));
        SHARE.store((total.max(0) as u64 / 512 / threads).max(SMALLEST_SHARE), Relaxed);
        let step = total - NOTED.load(Relaxed);
        if step > total / 200
            && (step > total / 25 || life::since_start_ns() > NOT_BEFORE.load(Relaxed))
        {
            ARMED.store(true, Relaxed);
        }
    }
    let left = total - leaving;
    if ARMED.load(Relaxed) && left < highest - highest / 400 {
        note(total);
    }
    if leaving != 0 {
        TOTAL.fetch_sub(leaving, Relaxed);
    }
    begin(thread);
}

/// The thread keeps nothing, and may keep its share, unless it is ending.
fn begin(thread: &Thread) {
    if thread.known.get() == Known::Gone {
        return;
    }
    let share = SHARE.load(Relaxed) as usize;
    thread.may_grow.set(share);
    thread.may_shrink.set(share);
}

/// A thread ends: what it kept goes to the total, and so does all that it does from here on, at once.
pub fn leave(thread: &Thread) {
    TOTAL.fetch_add(taken_from(thread), Relaxed);
    if thread.known.replace(Known::Gone) == Known::In {
        THREADS.fetch_sub(1, Relaxed);
    }
}

/// Notes the live memory of every site in the bank that is not read.
#[cold]
fn note(total: i64) {
    let Some(_alone) = NOTING.try_lock() else { return };
    if !ARMED.swap(false, Relaxed) {
        return;
    }
    NOTED.store(total, Relaxed);
    let began = life::since_start_ns();
    let header = store::header();
    let bank = if header.peak_bank.load(Relaxed) == 1 { 1 } else { 0 };
    let sum = store::note_moment(Moment::Peak(bank));
    header.peak_bytes[bank].store(sum, Relaxed);
    header.peak_ns[bank].store(began, Relaxed);
    header.peak_bank.store(bank as u32 + 1, Release);
    let now = life::since_start_ns();
    NOT_BEFORE.store(now + (now - began) * TIME_SHARE, Relaxed);
}

/// In a forked child, whose counters start from nothing.
pub fn reset(thread: &Thread) {
    TOTAL.store(0, Relaxed);
    HIGHEST.store(0, Relaxed);
    NOTED.store(0, Relaxed);
    ARMED.store(false, Relaxed);
    NOT_BEFORE.store(0, Relaxed);
    SHARE.store(SMALLEST_SHARE, Relaxed);
    THREADS.store(1, Relaxed);
    taken_from(thread);
    NOTING.release();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::thread;

    #[test]
    fn what_a_thread_keeps_is_what_came_and_went() {
        let thread = thread();
        thread.known.set(Known::In);
        let (mut random, mut live) = (3u64, Vec::new());
        let mut bytes = TOTAL.load(Relaxed) + kept(thread);
        // (`hand_over` notes the peak too, which a test has no place for.)
        let hand_over = |change: i64| {
            TOTAL.fetch_add(taken_from(thread) + change, Relaxed);
            begin(thread);
        };
        for _ in 0..200_000 {
            random = crate::hash::mix(random, 1);
            let size = (random >> 40) as usize % 3000;
            if random & 1 == 0 || live.is_empty() {
                live.push(size);
                bytes += size as i64;
                if !count_down(&thread.may_grow, size) && !keep_on(thread, size as i64) {
                    hand_over(size as i64);
                }
            } else {
                let size = live.swap_remove((random >> 8) as usize % live.len());
                bytes -= size as i64;
                if !shrink_simply(thread, size) && !keep_on(thread, -(size as i64)) {
                    hand_over(-(size as i64));
                }
            }
            assert_eq!(TOTAL.load(Relaxed) + kept(thread), bytes);
            assert!(kept(thread).unsigned_abs() <= SHARE.load(Relaxed));
        }
    }
}
