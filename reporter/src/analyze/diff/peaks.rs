//! Peaks of the processes of a run: those of processes that live one after the other do not add up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::analyze::process::lived_ns;
use crate::read::{Loaded, State};

/// What one process had at its peak.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// Position of its dump.
    pub dump: usize,
    /// Bytes.
    pub bytes: u64,
}

/// Adds to what is known of a process; it is the last one that anything was added to, or a new one.
pub fn add(peaks: &mut Vec<Peak>, peak: Peak) {
    match peaks.last_mut().filter(|known| known.dump == peak.dump) {
        Some(known) => known.bytes = known.bytes.saturating_add(peak.bytes),
        None => peaks.push(peak),
    }
}

/// From when until when each process lived, in nanoseconds of Unix time.
pub struct Lives(Vec<(u64, u64)>);

impl Lives {
    /// Of these dumps.
    pub fn of<'a>(dumps: impl Iterator<Item = &'a Loaded>) -> Lives {
        let life = |loaded: &Loaded| {
            let began = loaded.dump.started_unix_ns;
            match loaded.state {
                State::Running => (began, u64::MAX),
                _ => (began, began.saturating_add(lived_ns(&loaded.dump))),
            }
        };
        Lives(dumps.map(life).collect())
    }

    /// The largest sum over time of the peaks of processes that lived then.
    pub fn most(&self, peaks: &[Peak]) -> u64 {
        if let [one] = peaks {
            return one.bytes;
        }
        let life = |peak: &Peak| {
            let (began, ended) = self.0.get(peak.dump).copied()?;
            Some((began, ended, peak.bytes))
        };
        let mut lives: Vec<(u64, u64, u64)> = peaks.iter().filter_map(life).collect();
        lives.sort_unstable();
        // The first to end comes first.
        let mut alive: BinaryHeap<(Reverse<u64>, u64)> = BinaryHeap::new();
        let (mut sum, mut most) = (0u64, 0);
        for (began, ended, bytes) in lives {
            while let Some(&(Reverse(end), gone)) = alive.peek()
                && end <= began
            {
                sum = sum.saturating_sub(gone);
                alive.pop();
            }
            alive.push((Reverse(ended), bytes));
            sum = sum.saturating_add(bytes);
            most = most.max(sum);
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lives_at_once_adds_up() {
        let most = |lives: &[(u64, u64)]| {
            let peak = |dump| Peak { dump, bytes: [1, 10, 100][dump] };
            let peaks: Vec<Peak> = (0..lives.len()).map(peak).collect();
            Lives(lives.to_vec()).most(&peaks)
        };
        assert_eq!(most(&[(0, 9), (1, 3), (2, 5)]), 111);
        assert_eq!(most(&[(0, 9), (1, 3), (3, 5)]), 101, "one after the other");
        assert_eq!(most(&[(0, 9), (20, 23), (1, 5)]), 101, "in no order");
        assert_eq!(most(&[(0, 1), (1, 2), (2, 3)]), 100);
        assert_eq!(most(&[(0, 0), (0, 9)]), 10, "no time at all");
        assert_eq!(most(&[]), 0);
    }

    #[test]
    fn parts_of_a_process_add_up() {
        let mut peaks = Vec::new();
        for (dump, bytes) in [(0, 1), (0, 2), (1, 4)] {
            add(&mut peaks, Peak { dump, bytes });
        }
        assert_eq!(peaks.iter().map(|peak| peak.bytes).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(Lives(vec![(0, 1), (1, 2)]).most(&peaks), 4);
    }
}
