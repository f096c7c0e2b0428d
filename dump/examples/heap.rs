//! Prints what the heap snapshot of a dump holds, for whoever works on it.

use pyshim_dump::Dump;
use pyshim_dump::heap::Heap;

fn path(heap: &Heap, at: u32) -> String {
    let steps = heap.path(at).into_iter().map(|node| {
        format!(
            "{:?} {:?} {:?}#{} <{}> {}",
            node.kind,
            node.step,
            heap.text(node.label),
            node.detail,
            heap.type_name(node.type_),
            heap.text(node.name)
        )
    });
    steps.collect::<Vec<_>>().join("\n        -> ")
}

fn main() {
    let file = std::env::args().nth(1).expect("a dump");
    let dump = Dump::parse(&std::fs::read(&file).expect("readable")).expect("a dump");
    println!("{:?}", dump.snapshots);
    let Some(heap) = &dump.heap else { return };
    println!(
        "{:?} at {} ms, pause {} us, search {} ms",
        heap.moment, heap.at_ms, heap.pause_us, heap.search_ms
    );
    println!("{:?}", heap.search);
    println!("{:?}", heap.collector);
    for row in &heap.memory {
        println!("  {:?} {} KiB", row.kind, row.resident / 1024);
    }
    for arena in &heap.arenas {
        println!("  {arena:?}");
    }
    println!(
        "nodes {} types {} sites {} groups {}",
        heap.nodes.len(),
        heap.types.len(),
        heap.sites.len(),
        heap.groups.len()
    );
    for group in heap.groups.iter().take(15) {
        println!(
            "{:?} site {} type {} blocks {} bytes {} leaders {} counted {} found {} blocker {} shape {} members {}",
            group.state,
            group.site,
            heap.type_name(group.type_),
            group.blocks,
            group.bytes,
            group.leaders,
            group.counted,
            group.found,
            heap.type_name(group.blocker),
            heap.text(group.shape),
            group.members.len()
        );
        println!("   holder {}", path(heap, group.holder));
        println!("   sample {}", path(heap, group.sample));
    }
    let mut types: Vec<_> = heap.types.iter().collect();
    types.sort_by_key(|one| core::cmp::Reverse(one.retained));
    for one in types.iter().take(10) {
        println!(
            "  {} objects {} bytes {} retained {}",
            heap.text(one.name),
            one.objects,
            one.bytes,
            one.retained
        );
    }
}
