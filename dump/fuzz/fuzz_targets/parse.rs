//! Reads any bytes as a dump: no panic, no memory without bound, and what was
//! read comes back when it is written again. Started by `scripts/fuzz`, or alone by `scripts/fuzz --parse`.

#![no_main]

mod dice;
mod heap;
mod shape;

use std::hint::black_box;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pyshim_dump::blob::{Census, Timeline};
use pyshim_dump::heap::Heap;
use pyshim_dump::record::{Frame, MOST_FRAMES};
use pyshim_dump::{Dump, histogram, pack};

fuzz_target!(|bytes: &[u8]| {
    match Dump::parse(bytes) {
        Ok(dump) => {
            check_packed(bytes, &dump);
            check(dump);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

// A checksum guards most of a dump, so bytes changed at random would never be
// looked at: change a part, then make the sums agree again.
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    shape::mutate(data, size, max_size, seed)
});

fn check_packed(bytes: &[u8], dump: &Dump) {
    let Some(packed) = pack(bytes).map(|packed| packed.bytes()) else { return };
    let packed = Dump::parse(&packed).expect("what can be read can be read when it is packed");
    assert_eq!(format!("{:?}", packed.sites), format!("{:?}", dump.sites));
    assert_eq!(packed.timeline, dump.timeline);
    assert_eq!((&packed.census, &packed.final_census), (&dump.census, &dump.final_census));
    assert_eq!(packed.heap, dump.heap);
    assert_eq!((packed.codes, packed.texts), (dump.codes.clone(), dump.texts.clone()));
}

fn check(dump: Dump) {
    for site in &dump.sites {
        black_box(site.totals.live());
        let Some(stack) = &site.stack else { continue };
        assert!(dump.frames(stack).count() <= MOST_FRAMES);
        for frame in dump.frames(stack) {
            if let Frame::Native { pc } = frame {
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
    let mut writer = dump.timeline.writer();
    writer.halve();
    let halved = Timeline::decode(&writer.encode()).expect("it was just written");
    assert_eq!(halved.points.len(), points.div_ceil(2));

    if let Some(heap) = &dump.heap {
        check_heap(heap);
    }
}

fn check_heap(heap: &Heap) {
    assert_eq!(Heap::decode(&heap.encode()).as_ref(), Some(heap));
    let nodes = heap.nodes.len();
    // A path is as long as the file makes it: not those of all nodes.
    for at in (0..=nodes + 1).rev().take(64) {
        let path = heap.path(at as u32);
        assert_eq!(path.last().copied(), heap.node(at as u32));
        assert!(path.first().is_none_or(|root| root.parent == 0), "a path begins at a root");
        assert!(path.len() <= nodes);
        for node in path {
            black_box((heap.text(node.label), heap.text(node.name), heap.type_name(node.type_)));
        }
    }
    for group in &heap.groups {
        black_box((heap.node(group.holder), heap.node(group.sample), heap.text(group.shape)));
        black_box((heap.type_name(group.type_), heap.type_name(group.blocker)));
    }
}
