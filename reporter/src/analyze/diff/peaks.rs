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
    /// Variance of that.
    pub variance: f64,
}

/// Adds to what is known of a process; it is the last one that anything was added to, or a new one.
pub fn add(peaks: &mut Vec<Peak>, peak: Peak) {
    match peaks.last_mut().filter(|known| known.dump == peak.dump) {
        Some(known) => {
            known.bytes = known.bytes.saturating_add(peak.bytes);
            known.variance += peak.variance;
        }
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

    /// The largest sum over time of the peaks of processes that lived then, and its variance.
    pub fn most(&self, peaks: &[Peak]) -> (u64, f64) {
        if let [one] = peaks {
            return (one.bytes, one.variance);
        }
        let life = |peak: &Peak| Some((self.0.get(peak.dump).copied()?, *peak));
        let mut lives: Vec<((u64, u64), Peak)> = peaks.iter().filter_map(life).collect();
        lives.sort_unstable_by_key(|&(life, peak)| (life, peak.dump));
        // The first to end comes first.
        let mut alive: BinaryHeap<(Reverse<u64>, usize)> = BinaryHeap::new();
        let (mut bytes, mut variance, mut most) = (0u64, 0.0f64, (0, 0.0));
        for (at, &((began, ended), peak)) in lives.iter().enumerate() {
            while let Some(&(Reverse(end), gone)) = alive.peek()
                && end <= began
            {
                let gone = lives.get(gone).map(|it| it.1);
                bytes = bytes.saturating_sub(gone.map_or(0, |peak| peak.bytes));
                variance = (variance - gone.map_or(0.0, |peak| peak.variance)).max(0.0);
                alive.pop();
            }
            alive.push((Reverse(ended), at));
            bytes = bytes.saturating_add(peak.bytes);
            variance += peak.variance;
            if bytes > most.0 {
                most = (bytes, variance);
            }
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
            let peak = |dump| {
                let bytes = [1, 10, 100][dump];
                Peak { dump, bytes, variance: bytes as f64 / 2.0 }
            };
            let peaks: Vec<Peak> = (0..lives.len()).map(peak).collect();
            let (bytes, variance) = Lives(lives.to_vec()).most(&peaks);
            assert_eq!(variance, bytes as f64 / 2.0, "it is of the same processes");
            bytes
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
            add(&mut peaks, Peak { dump, bytes, variance: 1.0 });
        }
        assert_eq!(peaks.iter().map(|peak| peak.bytes).collect::<Vec<_>>(), [3, 4]);
        assert_eq!(Lives(vec![(0, 1), (1, 2)]).most(&peaks), (4, 1.0));
        assert_eq!(Lives(vec![(0, 2), (1, 2)]).most(&peaks), (7, 3.0));
    }
}
