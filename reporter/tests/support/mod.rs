//! Puts dumps together without a shim, as the format says, for tests.

#![allow(dead_code)]

pub mod heap;

use std::mem::{offset_of, size_of};

use pyshim_dump::blob::{Census, Change, Point, SiteCensus, Timeline};
use pyshim_dump::heap::Heap;
use pyshim_dump::histogram::bucket;
use pyshim_dump::layout::{
    BEYOND, Beside, BlobCopy, BlobKind, BlobSlot, Counters, EndKind, Extent, ExtentKind, FURTHER,
    Further, Gauge, HEADER_LEN, Header, Lost, MAGIC, MAJOR, Moments, SEALED_LEN, SITES, Tally,
    Wide,
};
use pyshim_dump::record::{self, Code, Frame, Module, Origin, Process, Record};
use pyshim_dump::{Dump, amount};

/// Counters of a site.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    /// Allocated blocks and bytes.
    pub allocated: (u64, u64),
    /// Freed blocks and bytes.
    pub freed: (u64, u64),
    /// Before the teardown.
    pub last: (u64, u64),
    /// At the peak.
    pub peak: (u64, u64),
}

impl Numbers {
    /// Blocks and bytes that live, and lived before a teardown that freed nothing.
    pub fn live(blocks: u64, bytes: u64) -> Numbers {
        let both = (blocks, bytes);
        Numbers { allocated: both, freed: (0, 0), last: both, peak: both }
    }
}

/// A dump in the making.
pub struct Maker {
    header: Vec<u8>,
    log: Vec<u8>,
    context: record::Context,
    sites: Vec<Numbers>,
    texts: Vec<String>,
    codes: u32,
    modules: u32,
    sealed: bool,
    /// Points in time.
    pub timeline: Timeline,
    /// Sizes and ages while it runs.
    pub census: Option<Census>,
    /// The same before the teardown.
    pub final_census: Option<Census>,
    /// What a search of the memory found.
    pub heap: Option<Heap>,
}

impl Default for Maker {
    fn default() -> Maker {
        Maker::new()
    }
}

impl Maker {
    /// A dump with nothing but site 0.
    pub fn new() -> Maker {
        let mut maker = Maker {
            header: vec![0; HEADER_LEN],
            log: record::begin_batch(0),
            context: record::Context::new(),
            sites: vec![Numbers::default()],
            texts: Vec::new(),
            codes: 0,
            modules: 0,
            sealed: false,
            timeline: Timeline::default(),
            census: None,
            final_census: None,
            heap: None,
        };
        maker.header[..8].copy_from_slice(&MAGIC);
        maker.put16(offset_of!(Header, major), MAJOR);
        maker.put32(offset_of!(Header, header_len), HEADER_LEN as u32);
        maker.put32(offset_of!(Header, pid), 4242).put32(offset_of!(Header, parent_pid), 1);
        // 2024-03-01 12:00:00 UTC
        maker.put64(offset_of!(Header, started_unix_ns), 1_709_294_400_000_000_000);
        maker.put64(offset_of!(Header, started_ticks), 77);
        maker
    }

    fn put16(&mut self, at: usize, value: u16) -> &mut Maker {
        self.header[at..at + 2].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Sets a header field of 32 bits.
    pub fn put32(&mut self, at: usize, value: u32) -> &mut Maker {
        self.header[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Sets a header field of 64 bits.
    pub fn put64(&mut self, at: usize, value: u64) -> &mut Maker {
        self.header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Sets a reading.
    pub fn gauge(&mut self, gauge: Gauge, bytes: u64) -> &mut Maker {
        self.put64(offset_of!(Header, gauges) + gauge as usize * 8, bytes)
    }

    /// Sets a loss.
    pub fn lost(&mut self, lost: Lost, count: u64) -> &mut Maker {
        self.put64(offset_of!(Header, lost) + lost as usize * 8, count)
    }

    /// The last sign of life.
    pub fn heartbeat(&mut self, ns: u64) -> &mut Maker {
        self.put64(offset_of!(Header, heartbeat_ns), ns)
    }

    /// It ended, with this status, after its interpreter's teardown.
    pub fn exited(&mut self, status: i32, ns: u64) -> &mut Maker {
        self.put32(offset_of!(Header, end_kind), EndKind::Exit as u32)
            .put32(offset_of!(Header, end_status), status as u32)
            .put64(offset_of!(Header, end_ns), ns)
            .put64(offset_of!(Header, final_ns), ns)
            .heartbeat(ns)
    }

    /// A peak was seen, and recorded in the first bank.
    pub fn peak(&mut self, bytes: u64, ns: u64) -> &mut Maker {
        self.put32(offset_of!(Header, peak_bank), 1)
            .put64(offset_of!(Header, peak_bytes), bytes)
            .put64(offset_of!(Header, peak_ns), ns)
            .put64(offset_of!(Header, peak_seen), bytes)
    }

    /// Nothing changes any more.
    pub fn sealed(&mut self) -> &mut Maker {
        self.sealed = true;
        self
    }

    /// Appends a record.
    pub fn record(&mut self, record: &Record) -> &mut Maker {
        record::write(&mut self.log, &mut self.context, record);
        self
    }

    /// The process record of a script.
    pub fn process(&mut self, python: &str, argv: &[&str]) -> &mut Maker {
        self.record(&Record::Process(Process {
            executable: "/opt/py/bin/python3.11".into(),
            argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
            directory: "/srv/app".into(),
            python: python.into(),
            settings: vec!["sample=exact".into(), "native=leaf".into(), "python=1".into()],
        }))
    }

    /// A sentence for the reader.
    pub fn note(&mut self, text: &str) -> &mut Maker {
        self.record(&Record::Note { text: text.into() })
    }

    /// A code object that lies on one line.
    pub fn code(&mut self, file: &str, line: u32, name: &str) -> u32 {
        let text = match self.texts.iter().position(|text| text == file) {
            Some(text) => text as u32,
            None => {
                let id = self.texts.len() as u32;
                self.texts.push(file.into());
                self.record(&Record::Text { id, text: file.into() });
                id
            }
        };
        let id = self.codes;
        self.codes += 1;
        self.record(&Record::Code(Code {
            id,
            file: text,
            name: name.into(),
            first_line: line,
            table_kind: 0,
            table: Vec::new(),
        }));
        id
    }

    /// A code object with an instruction for each of `lines`, given as line and column. The one at
    /// position `i` is instruction `2 * i`.
    pub fn function(&mut self, file: &str, name: &str, first: u32, lines: &[(u32, u32)]) -> u32 {
        let id = self.code(file, first, name);
        let text = self.texts.iter().position(|text| text == file).expect("its file") as u32;
        let varint = |table: &mut Vec<u8>, mut value: u32| {
            while value >= 64 {
                table.push((value & 63) as u8 | 64);
                value >>= 6;
            }
            table.push(value as u8);
        };
        let (mut table, mut before) = (Vec::new(), i64::from(first));
        for &(line, column) in lines {
            let on = i64::from(line) - before;
            before = i64::from(line);
            table.push(0x80 | 14 << 3);
            varint(&mut table, (on.unsigned_abs() << 1) as u32 | u32::from(on < 0));
            [0, column + 1, column + 5].into_iter().for_each(|it| varint(&mut table, it));
        }
        self.record(&Record::Code(Code {
            id,
            file: text,
            name: name.into(),
            first_line: first,
            table_kind: 2,
            table,
        }))
        .codes = id + 1;
        id
    }

    /// A module at an address.
    pub fn module(&mut self, path: &str, start: u64, len: u64) -> u32 {
        let id = self.modules;
        self.modules += 1;
        self.record(&Record::Module(Module {
            id,
            path: path.into(),
            build_id: vec![],
            bias: start,
            start,
            end: start + len,
            loaded_ns: 1,
        }));
        id
    }

    /// A site with its definition.
    pub fn site(&mut self, origin: Origin, frames: &[Frame], numbers: Numbers) -> u32 {
        let id = self.nameless(numbers);
        let frames = frames.to_vec();
        self.record(&Record::Site { id, origin, truncated: false, path: 0, frames });
        id
    }

    /// A site whose definition got lost.
    pub fn nameless(&mut self, numbers: Numbers) -> u32 {
        self.sites.push(numbers);
        self.sites.len() as u32 - 1
    }

    /// Site 0: blocks whose stack found no room.
    pub fn site_zero(&mut self, numbers: Numbers) -> &mut Maker {
        self.sites[0] = numbers;
        self
    }

    /// A point of the timeline: live bytes of each site named.
    pub fn point(&mut self, at_ms: u64, changes: &[(u32, u64)]) -> &mut Maker {
        let changes =
            changes.iter().map(|&(site, bytes)| Change { site, bytes, blocks: 1 }).collect();
        self.timeline.points.push(Point { at_ms, changes, ..Point::default() });
        self
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let mut file = self.header.clone();
        let mut extents = Vec::new();
        let count = self.sites.len() as u64;
        let large: Vec<u32> =
            (0..count as u32).filter(|&id| self.sites[id as usize].is_large()).collect();
        // Each has two: the second is as another thread claims it. (The first place is nobody's.)
        let owners: Vec<(u32, Part)> = [Part::First, Part::Claimed]
            .into_iter()
            .flat_map(|part| large.iter().map(move |&id| (id, part)))
            .collect();
        let places = owners.len() as u64 + 1;
        for (kind, item, growth, count) in [
            (ExtentKind::Counters, size_of::<Counters>(), SITES, count),
            (ExtentKind::Moments, size_of::<Moments>(), SITES, count),
            (ExtentKind::Further, size_of::<Further>(), FURTHER, places),
        ] {
            for index in 0.. {
                let (first, end) = (growth.before(index), growth.through(index));
                let mut bytes = vec![0; (end - first) as usize * item];
                for (slot, at) in bytes.chunks_exact_mut(item).zip(first as usize..) {
                    if kind == ExtentKind::Further {
                        if let Some(&(id, part)) = at.checked_sub(1).and_then(|at| owners.get(at)) {
                            self.sites[id as usize].write_further(id, part, slot);
                        }
                    } else if let Some(numbers) = self.sites.get(at) {
                        numbers.write(kind, slot);
                    }
                }
                extents.push((kind, index, file.len(), bytes.len()));
                file.extend(bytes);
                if end >= count {
                    break;
                }
            }
        }
        set32(&mut file, offset_of!(Header, further_count), places as u32);
        let mut log = self.log.clone();
        record::end_batch(&mut log);
        let room = log.len().next_multiple_of(4096);
        extents.push((ExtentKind::Log, 0, file.len(), room));
        file.extend(&log);
        file.resize(file.len() + room - log.len(), 0);
        for (index, (kind, position, offset, len)) in extents.iter().enumerate() {
            let at = offset_of!(Header, extents) + index * size_of::<Extent>();
            set32(&mut file, at + offset_of!(Extent, kind), *kind as u32);
            set32(&mut file, at + offset_of!(Extent, index), *position);
            set64(&mut file, at + offset_of!(Extent, offset), *offset as u64);
            set64(&mut file, at + offset_of!(Extent, len), *len as u64);
        }
        let blobs = [
            (BlobKind::Timeline, Some(self.timeline.encode())),
            (BlobKind::Census, self.census.as_ref().map(Census::encode)),
            (BlobKind::FinalCensus, self.final_census.as_ref().map(Census::encode)),
        ];
        let slot = |kind| offset_of!(Header, blobs) + kind as usize * size_of::<BlobSlot>();
        let blobs = blobs.map(|(kind, blob)| (slot(kind), blob));
        let heap = offset_of!(Header, beside) + offset_of!(Beside, heap);
        let heap = (heap, self.heap.as_ref().map(Heap::encode));
        for (slot, blob) in blobs.into_iter().chain([heap]) {
            let Some(blob) = blob else { continue };
            set64(&mut file, slot + offset_of!(BlobCopy, len), blob.len() as u64);
            set32(&mut file, slot + offset_of!(BlobCopy, crc), crc32fast::hash(&blob));
            let offset = file.len() as u64;
            set64(&mut file, slot + offset_of!(BlobCopy, offset), offset);
            set64(&mut file, slot + offset_of!(BlobSlot, active), 1);
            file.extend(blob);
            file.resize(file.len().next_multiple_of(4096), 0);
        }
        let len = file.len() as u64;
        set64(&mut file, offset_of!(Header, file_len), len);
        set64(&mut file, offset_of!(Header, log_len), log.len() as u64);
        set32(&mut file, offset_of!(Header, extent_count), extents.len() as u32);
        set32(&mut file, offset_of!(Header, site_count), count as u32);
        let identity = crc32fast::hash(&file[..offset_of!(Header, identity_crc)]);
        set32(&mut file, offset_of!(Header, identity_crc), identity);
        if self.sealed {
            set32(&mut file, offset_of!(Header, sealed), 1);
            let mut crc = crc32fast::Hasher::new();
            crc.update(&file[..SEALED_LEN]);
            for (kind, _, offset, len) in &extents {
                if *kind != ExtentKind::Log {
                    crc.update(&file[*offset..offset + len]);
                }
            }
            set32(&mut file, offset_of!(Header, sealed_crc), crc.finalize());
        }
        file
    }

    /// As the reader sees it.
    pub fn dump(&self) -> Dump {
        Dump::parse(&self.bytes()).expect("a dump that was put together right")
    }
}

impl Numbers {
    /// Whether words are too small for them.
    fn is_large(&self) -> bool {
        let all = [self.allocated, self.freed, self.peak, self.last];
        all.iter().any(|&(blocks, bytes)| amount::pack(blocks, bytes).is_none())
    }

    fn write(&self, kind: ExtentKind, slot: &mut [u8]) {
        let word = |(blocks, bytes)| amount::pack(blocks, bytes).filter(|_| !self.is_large());
        if kind == ExtentKind::Counters {
            let held = offset_of!(Counters, held);
            set64(slot, held + offset_of!(Tally, allocated), word(self.allocated).unwrap_or(0));
            set64(slot, held + offset_of!(Tally, freed), word(self.freed).unwrap_or(0));
        } else {
            set64(slot, offset_of!(Moments, peak), word(self.peak).unwrap_or(BEYOND));
            set64(slot, offset_of!(Moments, last), word(self.last).unwrap_or(BEYOND));
        }
    }

    fn write_further(&self, id: u32, part: Part, slot: &mut [u8]) {
        set32(slot, offset_of!(Further, owner), id + 1);
        if part == Part::Claimed {
            let allocated = offset_of!(Tally, allocated);
            set64(slot, offset_of!(Further, free) + allocated, amount::one(1));
            set64(slot, offset_of!(Further, own) + allocated, 2 * amount::one(1));
            return;
        }
        let (blocks, bytes) = self.allocated;
        for (at, (blocks, bytes)) in [
            (offset_of!(Further, allocated), (blocks.wrapping_sub(3), bytes.wrapping_sub(3))),
            (offset_of!(Further, freed), self.freed),
            (offset_of!(Further, peak), self.peak),
            (offset_of!(Further, last), self.last),
        ] {
            set64(slot, at + offset_of!(Wide, blocks), blocks);
            set64(slot, at + offset_of!(Wide, bytes), bytes);
        }
    }
}

/// Which of a large site's two places.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    First,
    Claimed,
}

fn set32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn set64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

/// Blocks of one size and age.
pub fn census_of(site: u32, blocks: u64, size: u64, age_ms: u64) -> SiteCensus {
    SiteCensus {
        site,
        largest: size,
        oldest_ms: age_ms,
        sizes: vec![(bucket(size), blocks)],
        ages: vec![(bucket(age_ms), blocks)],
    }
}

/// A running process of this age whose site 0 had these bytes at these milliseconds.
pub fn run_of(age_ms: u64, points: &[(u64, u64)]) -> Dump {
    let mut maker = Maker::new();
    maker.heartbeat(age_ms * 1_000_000);
    for &(at_ms, bytes) in points {
        maker.point(at_ms, &[(0, bytes)]);
    }
    maker.dump()
}

/// The addresses of [`leaky`]'s extension.
pub const EXTENSION: u64 = 0x7000_0000_0000;
/// The address of [`leaky`]'s interpreter.
pub const INTERPRETER: u64 = 0x5500_0000_0000;

/// A program of 60 seconds with a native leak, a Python cache, a mapping, and a table that it
/// filled at start-up.
pub fn leaky() -> Maker {
    let mut maker = Maker::new();
    maker.process("3.11.7", &["python", "app.py", "--fast"]);
    maker.module("/opt/py/bin/python3.11", INTERPRETER, 0x10_0000);
    maker.module("/srv/app/rowpack.so", EXTENSION, 0x1_0000);
    let main = maker.code("app.py", 120, "main");
    let encode = maker.code("app.py", 88, "encode");
    let load = maker.code("app.py", 31, "load");
    let table = maker.code("tables.py", 7, "<module>");
    let python = |code| Frame::Python { code, instruction: 0, entry: false };
    let extension = |at: u64| Frame::Native { pc: EXTENSION + at };
    let interpreter = |at: u64| Frame::Native { pc: INTERPRETER + at };
    let leak = maker.site(
        Origin::Native,
        &[extension(0x1234), interpreter(0x500), python(encode), python(main)],
        Numbers { freed: (0, 0), ..Numbers::live(1000, 1_024_000) },
    );
    let small = maker.site(
        Origin::PythonSmall,
        &[interpreter(0x900), python(load), python(main)],
        Numbers { freed: (2990, 191_000), ..Numbers::live(3000, 192_000) },
    );
    let large = maker.site(
        Origin::PythonLarge,
        &[interpreter(0x900), python(load), python(main)],
        Numbers { freed: (10, 80_000), ..Numbers::live(10, 80_000) },
    );
    let filled = maker.site(
        Origin::PythonLarge,
        &[python(table)],
        Numbers { freed: (1, 4_000_000), ..Numbers::live(1, 4_000_000) },
    );
    let mapping = maker.site(Origin::Mapping, &[python(main)], Numbers::live(1, 8 << 20));
    maker.exited(0, 60_000_000_000).peak(5_300_000, 59_500_000_000).sealed();
    for second in 0..60 {
        maker.point(
            second * 1000,
            &[
                (leak, second * 17_000),
                (small, second * 3_200),
                (large, 80_000),
                (filled, if second < 3 { second * 1_000_000 } else { 4_000_000 }),
                (mapping, 8 << 20),
            ],
        );
    }
    maker.final_census = Some(Census {
        at_ms: 60_000,
        sites: vec![
            census_of(leak, 1000, 1024, 30_000),
            census_of(small, 3000, 64, 10_000),
            census_of(large, 10, 8_000, 59_000),
            census_of(filled, 1, 4_000_000, 57_000),
        ],
    });
    for (gauge, bytes) in [
        (Gauge::Rss, 24 << 20),
        (Gauge::PeakRss, 25 << 20),
        (Gauge::PymallocArenas, 1 << 20),
        (Gauge::LibcFree, 300 << 10),
        (Gauge::Code, 6 << 20),
        (Gauge::Stacks, 140 << 10),
        (Gauge::Shim, 2 << 20),
        (Gauge::Mapped, 8 << 20),
    ] {
        maker.gauge(gauge, bytes);
    }
    maker
}
