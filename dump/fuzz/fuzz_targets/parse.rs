//! Reads any bytes as a dump: no panic, no memory without bound, and what was
//! read comes back when it is written again. Started by `scripts/fuzz`.

#![no_main]

mod shape;

use std::hint::black_box;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pyshim_dump::blob::{Census, Timeline};
use pyshim_dump::record::{Frame, MOST_FRAMES};
use pyshim_dump::{Dump, histogram};

fuzz_target!(|bytes: &[u8]| {
    match Dump::parse(bytes) {
        Ok(dump) => check(dump),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

// A checksum guards most of a dump, so bytes changed at random would never be
// looked at: change a part, then make the sums agree again.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    shape::mutate(data, size, max_size, seed)
});

fn check(mut dump: Dump) {
    for site in &dump.sites {
        black_box(site.totals.live());
        let Some(stack) = &site.stack else { continue };
        assert!(stack.frames.len() <= MOST_FRAMES);
        for frame in &stack.frames {
            if let Frame::Native { pc } = *frame {
                black_box(dump.module_of(stack, pc));
            }
        }
    }

    for census in [&dump.census, &dump.final_census].into_iter().flatten() {
        assert_eq!(Census::decode(&census.encode()).as_ref(), Some(census));
        for &(bucket, _) in census.sites.iter().flat_map(|site| site.sizes.iter().chain(&site.ages))
        {
            black_box(histogram::lowest(bucket));
        }
    }

    assert_eq!(Timeline::decode(&dump.timeline.encode()).as_ref(), Some(&dump.timeline));
    let points = dump.timeline.points.len();
    dump.timeline.halve();
    assert_eq!(dump.timeline.points.len(), points.div_ceil(2));
}
