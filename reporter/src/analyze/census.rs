//! What the heap snapshots counted: types, and who holds how much.

use std::collections::HashMap;

use crate::read::Loaded;
use crate::symbolize::Symbols;

use super::holders::{Holders, plain};
use super::report::{By, HolderRow, TypeRow};
use super::{Options, why};

/// Both tables.
#[derive(Default)]
pub struct Census {
    /// Most retained bytes first.
    pub types: Vec<TypeRow>,
    /// Most bytes first.
    pub holders: Vec<HolderRow>,
}

/// Over all dumps.
pub fn census(dumps: &[Loaded], symbols: &mut Symbols, options: &Options) -> Census {
    let mut types: HashMap<&str, TypeRow> = HashMap::new();
    let mut holders: HashMap<String, HolderRow> = HashMap::new();
    let heaps = dumps.iter().filter_map(|it| it.dump.heap.as_ref().map(|heap| (&it.dump, heap)));
    for (dump, heap) in heaps {
        for one in heap.types.iter().filter(|one| one.objects > 0) {
            let name = plain(heap.text(one.name));
            let row = types
                .entry(name)
                .or_insert_with(|| TypeRow { name: name.to_owned(), ..TypeRow::default() });
            row.objects = row.objects.saturating_add(one.objects);
            row.bytes = row.bytes.saturating_add(one.bytes);
            row.retained = row.retained.saturating_add(one.retained);
        }
        // Names of static variables take time, so only where somebody asks.
        if options.by != By::Holder && options.survivors.is_none() {
            continue;
        }
        let mut words = Holders { dump, heap, symbols };
        for group in heap.groups.iter().take(options.top.saturating_mul(4)) {
            let held = words.describe(group.holder, group.sample);
            let name =
                held.map_or_else(|| why::state_words(group.state).to_owned(), |held| held.text);
            let row = holders.entry(name).or_insert_with_key(|name| HolderRow {
                holder: name.clone(),
                ..HolderRow::default()
            });
            row.bytes = row.bytes.saturating_add(group.bytes);
            row.blocks = row.blocks.saturating_add(group.blocks);
            let retained = heap.node(group.holder).map(|node| node.retained);
            row.retained = row.retained.max(retained.filter(|&bytes| bytes > 0));
        }
    }
    let mut types: Vec<TypeRow> = types.into_values().collect();
    types.sort_by(|a, b| (b.retained, b.bytes, &a.name).cmp(&(a.retained, a.bytes, &b.name)));
    types.truncate(options.top);
    let mut holders: Vec<HolderRow> = holders.into_values().collect();
    holders.sort_by(|a, b| (b.bytes, &a.holder).cmp(&(a.bytes, &b.holder)));
    holders.truncate(options.top);
    Census { types, holders }
}
