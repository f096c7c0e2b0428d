//! Where the parts of a dump are: makes one to begin with, changes a part of
//! one, and brings its checksums back into agreement.

use std::mem::{offset_of, size_of};
use std::ops::Range;

use libfuzzer_sys::fuzzer_mutate;
use pyshim_dump::Dump;
use pyshim_dump::blob::{Census, Change, Point, SiteCensus, Timeline};
use pyshim_dump::heap::Heap;
use pyshim_dump::layout::{
    Beside, BlobCopy, BlobKind, BlobSlot, Counters, Extent, ExtentKind, FURTHER, Further,
    HEADER_LEN, Header, MAGIC, MAJOR, Moments, SEALED_LEN, SITES,
};
use pyshim_dump::record::{
    self, Code, Context, FRAMING, Frame, Module, Origin, Process, Record, begin_batch,
};
use pyshim_dump::varint::{self, Input};

use crate::dice::Dice;
use crate::heap;

/// Where the slots are of what is replaced as a whole; the last one is of packed dumps.
const SLOTS: [usize; 5] = [
    slot_of(BlobKind::Timeline),
    slot_of(BlobKind::Census),
    slot_of(BlobKind::FinalCensus),
    HEAP_SLOT,
    slot_of(BlobKind::Numbers),
];

const HEAP_SLOT: usize = offset_of!(Header, beside) + offset_of!(Beside, heap);

const fn slot_of(blob: BlobKind) -> usize {
    offset_of!(Header, blobs) + blob as usize * size_of::<BlobSlot>()
}

/// The lengths of the arrays in the dump to begin with.
const COUNTERS_LEN: usize = SITES.first as usize * size_of::<Counters>();
const MOMENTS_LEN: usize = SITES.first as usize * size_of::<Moments>();
const FURTHER_LEN: usize = FURTHER.first as usize * size_of::<Further>();

/// Room for the log of that dump, and for each blob.
const LOG_ROOM: usize = 16 << 10;
const BLOB_ROOM: usize = 8 << 10;

/// Changes `data[..size]`, which may grow to `max_size`; returns its new size.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    if size < HEADER_LEN {
        let dump = first();
        // Were it refused, every change of it would be too, and nothing would be tried.
        let whole = Dump::parse(&dump).expect("the dump to begin with is whole");
        assert!(whole.heap.is_some() && whole.census.is_some());
        let packed = pyshim_dump::pack(&dump).expect("it is sealed").bytes();
        let dump = if seed.is_multiple_of(2) { packed } else { dump };
        assert!(dump.len() <= max_size, "-max_len has to be {} or more", dump.len());
        data[..dump.len()].copy_from_slice(&dump);
        return dump.len();
    }
    let mut dice = Dice(seed);
    let mut size = size;
    let dump = &mut data[..size];
    match dice.roll(16) {
        0 => size = fuzzer_mutate(data, size, max_size).max(1),
        1 => size -= dice.roll(size),
        2..=4 => in_place(dump, offset_of!(Header, file_len)..size_of::<Header>()),
        5..=6 => {
            let slot = SLOTS[dice.roll(SLOTS.len())];
            if let Some((range, _)) = blob_at(dump, slot) {
                in_place(dump, range);
            }
        }
        7..=11 => mutate_heap(dump, &mut dice),
        _ => mutate_log(dump, &mut dice),
    }
    // Now and then a sum stays wrong, so that this is tried as well.
    if dice.roll(32) != 0 {
        repair(&mut data[..size]);
    }
    size
}

fn in_place(dump: &mut [u8], range: Range<usize>) {
    let Some(part) = dump.get_mut(range) else { return };
    let len = part.len();
    if len > 0 {
        fuzzer_mutate(part, len, len);
    }
}

/// Changes what the heap snapshot says and leaves it one that can be read: of bytes changed at random
/// little comes but damage that is seen at once.
fn mutate_heap(dump: &mut [u8], dice: &mut Dice) {
    let Some((place, copy)) = blob_at(dump, HEAP_SLOT) else { return };
    let mut heap = Heap::decode(&dump[place.clone()]).unwrap_or_else(heap::first);
    for _ in 0..=dice.roll(4) {
        heap::change(&mut heap, dice);
    }
    let bytes = heap.encode();
    let capacity = get64(dump, copy + offset_of!(BlobCopy, capacity));
    if bytes.len() as u64 > capacity {
        return;
    }
    let Some(room) = dump.get_mut(place.start..place.start.saturating_add(bytes.len())) else {
        return;
    };
    room.copy_from_slice(&bytes);
    set64(dump, copy + offset_of!(BlobCopy, len), bytes.len() as u64);
}

/// Changes one record, or the order of the records.
fn mutate_log(dump: &mut [u8], dice: &mut Dice) {
    let Some((place, len)) = log_at(dump) else { return };
    let mut records = records(&dump[place.start..place.start + len]);
    if records.is_empty() {
        return;
    }
    let one = dice.roll(records.len());
    let other = dice.roll(records.len());
    match dice.roll(8) {
        0 => records.swap(one, other),
        1 => drop(records.remove(one)),
        2 | 3 => records.insert(other, records[one].clone()),
        _ => {
            // The kind and the content: all but what `repair` derives from them.
            let record = &mut records[one];
            let len = record.len();
            record.resize(len + 64, 0);
            let len = fuzzer_mutate(record, len, len + 64).max(1);
            record.truncate(len);
        }
    }
    let mut log = begin_batch(0);
    for record in records {
        let (kind, content) = record.split_first().expect("a kind");
        log.push(*kind);
        varint::put_bytes(&mut log, content);
    }
    log.truncate(place.len());
    record::end_batch(&mut log);
    dump[place.start..place.start + log.len()].copy_from_slice(&log);
    set64(dump, offset_of!(Header, log_len), log.len() as u64);
}

/// The records of a log's first batch, as kind and content, up to the first that is cut short.
fn records(log: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    let mut rest = Input(log.get(FRAMING..).unwrap_or_default());
    while let Some((kind, content)) = rest.byte().zip(rest.bytes()) {
        records.push([&[kind], content].concat());
    }
    records
}

/// Makes every checksum right; the seal last, as it covers the others.
fn repair(dump: &mut [u8]) {
    if dump.len() < HEADER_LEN {
        return;
    }
    for slot in SLOTS {
        if let Some((range, copy)) = blob_at(dump, slot) {
            let crc = crc32fast::hash(&dump[range]);
            set32(dump, copy + offset_of!(BlobCopy, crc), crc);
        }
    }
    let at = offset_of!(Header, identity_crc);
    let crc = crc32fast::hash(&dump[..at]);
    set32(dump, at, crc);

    let at = offset_of!(Header, sealed_crc);
    set32(dump, at, 0);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&dump[..SEALED_LEN]);
    for (kind, range) in extents(dump) {
        if kind != ExtentKind::Log as u32 {
            crc.update(&dump[range]);
        }
    }
    set32(dump, at, crc.finalize());
}

/// The extents that lie inside the dump.
fn extents(dump: &[u8]) -> Vec<(u32, Range<usize>)> {
    let count = get32(dump, offset_of!(Header, extent_count)) as usize;
    let table = offset_of!(Header, extents);
    (0..count.min(pyshim_dump::layout::MAX_EXTENTS))
        .filter_map(|index| {
            let at = table + index * size_of::<Extent>();
            let offset = get64(dump, at + offset_of!(Extent, offset));
            let len = get64(dump, at + offset_of!(Extent, len));
            Some((get32(dump, at + offset_of!(Extent, kind)), inside(dump, offset, len)?))
        })
        .collect()
}

/// The first extent of the log, and how much of it is in use.
fn log_at(dump: &[u8]) -> Option<(Range<usize>, usize)> {
    let (_, place) = extents(dump).into_iter().find(|(kind, _)| *kind == ExtentKind::Log as u32)?;
    let len = get64(dump, offset_of!(Header, log_len)).min(place.len() as u64);
    Some((place, len as usize))
}

/// The bytes of a blob, and where the copy is that names them.
fn blob_at(dump: &[u8], slot: usize) -> Option<(Range<usize>, usize)> {
    let copy = match get64(dump, slot + offset_of!(BlobSlot, active)) {
        active @ 1..=2 => slot + (active as usize - 1) * size_of::<BlobCopy>(),
        _ => return None,
    };
    let offset = get64(dump, copy + offset_of!(BlobCopy, offset));
    let len = get64(dump, copy + offset_of!(BlobCopy, len));
    Some((inside(dump, offset, len)?, copy))
}

fn inside(dump: &[u8], offset: u64, len: u64) -> Option<Range<usize>> {
    let end = offset.checked_add(len).filter(|&end| end <= dump.len() as u64)?;
    Some(offset as usize..end as usize)
}

fn get32(dump: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*dump[at..].first_chunk().expect("inside the header"))
}

fn get64(dump: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*dump[at..].first_chunk().expect("inside the header"))
}

fn set32(dump: &mut [u8], at: usize, value: u32) {
    dump[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn set64(dump: &mut [u8], at: usize, value: u64) {
    dump[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// A small dump that has something of everything. Its arrays share their
/// place with the log and the blobs: half the bytes, and twice the speed.
fn first() -> Vec<u8> {
    let (mut log, mut context) = (begin_batch(0), Context::new());
    for record in definitions() {
        record::write(&mut log, &mut context, &record);
    }
    record::end_batch(&mut log);
    let blobs =
        [timeline().encode(), census(40).encode(), census(90).encode(), heap::first().encode()];

    let room = LOG_ROOM + SLOTS.len() * BLOB_ROOM;
    let mut dump = vec![0; HEADER_LEN + room.max(COUNTERS_LEN).max(MOMENTS_LEN).max(FURTHER_LEN)];
    dump[..MAGIC.len()].copy_from_slice(&MAGIC);
    let version = offset_of!(Header, major);
    dump[version..version + 2].copy_from_slice(&MAJOR.to_le_bytes());
    set32(&mut dump, offset_of!(Header, header_len), HEADER_LEN as u32);
    set32(&mut dump, offset_of!(Header, site_count), 8);
    set32(&mut dump, offset_of!(Header, peak_bank), 2);
    set32(&mut dump, offset_of!(Header, further_count), FURTHER.first);
    set32(&mut dump, offset_of!(Header, end_kind), 1);
    set32(&mut dump, offset_of!(Header, sealed), 1);
    set64(&mut dump, offset_of!(Header, final_ns), 90_000_000);
    set64(&mut dump, offset_of!(Header, log_len), log.len() as u64);
    let file_len = dump.len() as u64;
    set64(&mut dump, offset_of!(Header, file_len), file_len);

    let mut end = HEADER_LEN;
    let parts = [
        (ExtentKind::Log, LOG_ROOM),
        (ExtentKind::Counters, COUNTERS_LEN),
        (ExtentKind::Moments, MOMENTS_LEN),
        (ExtentKind::Further, FURTHER_LEN),
    ];
    for (index, (kind, len)) in parts.into_iter().enumerate() {
        let at = offset_of!(Header, extents) + index * size_of::<Extent>();
        set32(&mut dump, at + offset_of!(Extent, kind), kind as u32);
        set64(&mut dump, at + offset_of!(Extent, offset), HEADER_LEN as u64);
        set64(&mut dump, at + offset_of!(Extent, len), len as u64);
    }
    set32(&mut dump, offset_of!(Header, extent_count), parts.len() as u32);
    dump[end..end + log.len()].copy_from_slice(&log);
    end += LOG_ROOM;

    for (slot, blob) in SLOTS.into_iter().zip(blobs) {
        set64(&mut dump, slot + offset_of!(BlobSlot, active), 1);
        set64(&mut dump, slot + offset_of!(BlobCopy, offset), end as u64);
        set64(&mut dump, slot + offset_of!(BlobCopy, capacity), BLOB_ROOM as u64);
        set64(&mut dump, slot + offset_of!(BlobCopy, len), blob.len() as u64);
        dump[end..end + blob.len()].copy_from_slice(&blob);
        end += BLOB_ROOM;
    }
    repair(&mut dump);
    dump
}

fn definitions() -> Vec<Record> {
    let code = |id| {
        Record::Code(Code {
            id,
            file: 0,
            name: "Row.load".into(),
            first_line: 31,
            table_kind: 2,
            table: vec![0x80, 0x02, 0x0c],
        })
    };
    let module = |id, start| {
        Record::Module(Module {
            id,
            path: "/usr/lib/libz.so.1".into(),
            build_id: vec![0xab; 20],
            bias: start,
            start,
            end: start + 0x1_0000,
            loaded_ns: 5,
        })
    };
    let site =
        |id, origin, path, frames| Record::Site { id, origin, truncated: id == 3, path, frames };
    let native = |pc| Frame::Native { pc };
    let python = |code, instruction, entry| Frame::Python { code, instruction, entry };
    vec![
        Record::Process(Process {
            executable: "/usr/bin/python3".into(),
            argv: vec!["python3".into(), "app.py".into()],
            directory: "/srv".into(),
            python: "3.13.0".into(),
            settings: vec!["native=leaf".into()],
        }),
        Record::Text { id: 0, text: "app.py".into() },
        code(0),
        code(1),
        module(0, 0x7f00_0000_0000),
        module(1, 0x7f00_0001_0000),
        site(1, Origin::PythonSmall, 1, vec![python(0, 6, false), python(1, 2, true)]),
        Record::Path { id: 1, truncated: false, pcs: vec![0x7f00_0000_0200, 0x7f00_0001_0300] },
        site(2, Origin::Native, 0, vec![native(0x7f00_0000_0100), python(1, 2, true)]),
        Record::Unload { id: 1, at_ns: 70 },
        site(3, Origin::Mapping, 1, vec![native(0x7f00_0001_0100), native(0x7f00_0000_0100)]),
        Record::Note { text: "half of it".into() },
        Record::Mark { at_ns: 80, label: "warm".into() },
    ]
}

fn timeline() -> Timeline {
    let point = |at_ms| Point {
        at_ms,
        rss: 1 << 24,
        allocated_bytes: at_ms * 1000,
        allocated_blocks: at_ms,
        changes: [1, 2, 700].map(|site| Change { site, bytes: at_ms * 100, blocks: at_ms }).into(),
    };
    Timeline { points: (0..5).map(|index| point(index * 20)).collect() }
}

fn census(at_ms: u64) -> Census {
    let site = |site| SiteCensus {
        site,
        largest: 4096,
        oldest_ms: at_ms,
        sizes: vec![(3, 1), (40, 2)],
        ages: vec![(1, 3)],
    };
    Census { at_ms, sites: vec![site(1), site(3)] }
}
