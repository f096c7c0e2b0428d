//! The verb `summarize` from arguments to output, over dumps that were put together by hand.

#[path = "support/called.rs"]
mod called;
mod support;

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::mem::offset_of;
use std::path::{Path, PathBuf};

use called::{Said, reporter};
use pyshim_dump::layout::{Beside, Counters, HEADER_LEN, Header, Lost, Moments};
use pyshim_dump::record::{Frame, Origin, Record};
use pyshim_reporter::cli::{self, Streams};
use serde_json::Value;
use support::{Maker, Numbers, leaky};
use tempfile::TempDir;

fn summarize(path: &Path, options: &[&str]) -> Said {
    let mut arguments = vec!["summarize", path.to_str().unwrap()];
    arguments.extend(options);
    reporter(&arguments)
}

fn json(paths: &[&Path]) -> Value {
    let mut arguments = vec!["summarize", "--format", "json"];
    arguments.extend(paths.iter().map(|path| path.to_str().unwrap()));
    let said = reporter(&arguments);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    serde_json::from_str(&said.out).unwrap()
}

fn write(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Exit status 2, nothing on stdout, one line that names the file.
fn assert_refused(said: &Said, path: &Path, trouble: &str) {
    assert_eq!(said.status, 2, "{}", said.err);
    assert_eq!(said.out, "");
    assert_eq!(said.err.lines().count(), 1, "{}", said.err);
    assert!(said.err.starts_with("reporter: "), "{}", said.err);
    assert!(said.err.contains(path.to_str().unwrap()), "{}", said.err);
    assert!(said.err.contains(trouble), "{trouble}: {}", said.err);
}

#[test]
fn the_leak_comes_first() {
    let folder = folder();
    let path = write(&folder, "a.dump", &leaky().bytes());
    let said = summarize(&path, &[]);
    assert_eq!((said.status, said.err.as_str()), (0, ""));
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[0], "app.py · CPython 3.11.7 · pid 4242 · 1 min 00 s · exited 0");
    let growing = lines.iter().position(|line| line.starts_with("GROWING")).unwrap();
    let steady = lines.iter().position(|line| line.starts_with("STEADY")).unwrap();
    let mapped = lines.iter().position(|line| line.starts_with("MAPPED")).unwrap();
    assert!(growing < steady && steady < mapped, "{}", said.out);
    let (growing, rest) = (&lines[growing..steady].join("\n"), &lines[steady..].join("\n"));
    assert!(growing.contains("1000 KiB") && growing.contains("rowpack.so  +0x1234"), "{growing}");
    assert!(growing.contains("app.py:88"), "{growing}");
    assert!(growing.contains("app.py:31"), "{growing}");
    assert!(rest.contains("tables.py:7"), "{rest}");
}

#[test]
fn json_keeps_the_contract() {
    let folder = folder();
    let path = write(&folder, "a.dump", &leaky().bytes());
    let value = json(&[&path]);
    assert_eq!(value["schema"], "pyshim.summary/1");
    for field in ["pid", "argv", "executable", "python", "started", "duration_s", "end"] {
        assert!(value["process"].get(field).is_some(), "process.{field}");
    }
    for field in [
        "rss",
        "peak_rss",
        "live_python",
        "live_native",
        "retained_pymalloc",
        "retained_libc",
        "mapped",
        "thread_stacks",
        "code",
        "unexplained",
    ] {
        assert!(value["memory"][field].is_number(), "memory.{field}");
    }
    let survivors = value["survivors"].as_array().unwrap();
    assert_eq!(survivors.len(), 4);
    let leak = &survivors[0];
    assert_eq!(leak["bytes"], 1_024_000);
    assert_eq!(leak["blocks"], 1000);
    assert_eq!(leak["origin"], "native");
    assert_eq!(leak["outlives_teardown"]["blocks"], 1000);
    assert_eq!(leak["age_s"]["max"], 30.0);
    assert_eq!(leak["size"]["p50"], 1024);
    let speed = leak["growth_bytes_per_second"].as_f64().unwrap();
    assert!((speed - 17_000.0).abs() < 300.0, "{speed}");
    assert_eq!(leak["startup_bytes"], 12 * 17_000);
    let python = &leak["site"]["python"][0];
    assert_eq!((&python["file"], &python["line"]), (&"app.py".into(), &88.into()));
    assert_eq!(python["function"], "encode");
    let native = &leak["site"]["native"];
    assert_eq!(native[0]["module"], "/srv/app/rowpack.so");
    assert_eq!(native[0]["offset"], 0x1234);
    assert_eq!(native[1]["role"], "interpreter");
    let order = serde_json::json!([{"native": 0}, {"native": 1}, {"python": 0}, {"python": 1}]);
    assert_eq!(leak["stack"], order);
    let cache = &survivors[1];
    assert_eq!((&cache["blocks"], &cache["origin"]), (&3010.into(), &"python".into()));
    assert_eq!(value["completeness"]["exact"], true);
    assert_eq!(value["completeness"]["native_frames"], "leaf");
    // Neither module is on this machine.
    assert_eq!(value["completeness"]["notes"].as_array().unwrap().len(), 2);
}

#[test]
fn a_site_has_the_same_name_in_every_run() {
    let folder = folder();
    let one = write(&folder, "a.dump", &leaky().bytes());
    let mut other = leaky();
    other.heartbeat(61_000_000_000);
    other.put32(std::mem::offset_of!(pyshim_dump::layout::Header, pid), 7);
    let other = write(&folder, "b.dump", &other.bytes());
    let ids = |path: &Path| -> Vec<String> {
        let value = json(&[path]);
        let survivors = value["survivors"].as_array().unwrap();
        survivors.iter().map(|it| it["site"]["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&one), ids(&other));
}

#[test]
fn several_dumps_are_merged() {
    let folder = folder();
    let one = write(&folder, "a.dump", &leaky().bytes());
    let mut other = leaky();
    other.put32(std::mem::offset_of!(pyshim_dump::layout::Header, pid), 4300);
    other.put32(std::mem::offset_of!(pyshim_dump::layout::Header, parent_pid), 4242);
    other.put32(std::mem::offset_of!(pyshim_dump::layout::Header, forked), 1);
    let other = write(&folder, "b.dump", &other.bytes());
    let value = json(&[&other, &one, &one]);
    assert_eq!(value["processes"].as_array().unwrap().len(), 2, "a dump named twice counts once");
    assert_eq!(value["process"]["pid"], 4242);
    assert_eq!(value["survivors"].as_array().unwrap().len(), 4);
    assert_eq!(value["survivors"][0]["bytes"], 2 * 1_024_000);
    assert_eq!(value["memory"]["rss"], 48 << 20);
    let said = reporter(&["summarize", one.to_str().unwrap(), other.to_str().unwrap()]);
    assert!(said.out.starts_with("2 processes\n"), "{}", said.out);
    assert!(said.out.contains("forked by 4242"), "{}", said.out);
}

#[test]
fn the_peak_is_another_list() {
    let folder = folder();
    let mut maker = leaky();
    let code = maker.code("app.py", 200, "burst");
    let gone = Numbers {
        allocated: (9, 9_000_000),
        freed: (9, 9_000_000),
        last: (0, 0),
        peak: (9, 9_000_000),
    };
    maker.site(Origin::Raw, &[Frame::Python { code, instruction: 0, entry: true }], gone);
    let path = write(&folder, "a.dump", &maker.bytes());
    assert!(!summarize(&path, &[]).out.contains("app.py:200"));
    let said = summarize(&path, &["--peak"]);
    let entries = said.out.split("\n 1  ").nth(1).unwrap();
    assert!(entries.starts_with("8.6 MiB"), "{}", said.out);
    assert!(entries.contains("app.py:200"), "{}", said.out);
}

/// Of a sampled run blocks are estimates. Mappings are not: all of them are counted.
#[test]
fn what_was_drawn_has_an_interval() {
    let folder = folder();
    let mut maker = leaky();
    maker.put64(offset_of!(Header, sample_mean), 512 << 10);
    let value = json(&[&write(&folder, "a.dump", &maker.bytes())]);
    let survivors = value["survivors"].as_array().unwrap();
    let has_interval = |mapping| {
        let of_kind = survivors.iter().filter(|it| (it["origin"] == "mapping") == mapping);
        of_kind.map(|it| it["bytes_interval"].is_array()).collect::<Vec<_>>()
    };
    assert_eq!(has_interval(true), [false]);
    assert_eq!(has_interval(false), [true; 3]);
}

#[test]
fn only_a_short_run_is_called_short() {
    let folder = folder();
    let long = write(&folder, "long.dump", &leaky().bytes());
    let mut maker = Maker::new();
    maker.process("3.12.1", &["python", "x.py"]).exited(0, 500_000_000);
    let short = write(&folder, "short.dump", &maker.bytes());
    for options in [&[][..], &["--peak"]] {
        let is_short = |path| summarize(path, options).out.contains("- the run is too short");
        assert!(!is_short(&long) && is_short(&short), "{options:?}");
    }
    // One that took its time, and of which there are no points all the same.
    let mut maker = Maker::new();
    maker.process("3.12.1", &["python", "x.py"]).exited(0, 7_000_000_000);
    let idle = write(&folder, "idle.dump", &maker.bytes());
    let said = summarize(&idle, &[]).out;
    assert!(said.contains("not known: too few moments were recorded"), "{said}");
    assert!(!said.contains("too short"), "{said}");
}

#[test]
fn libraries_hold_what_their_frames_allocate() {
    let folder = folder();
    let path = write(&folder, "a.dump", &leaky().bytes());
    let said = summarize(&path, &["--by", "library"]);
    for (size, name) in
        [("1000 KiB", "rowpack.so"), ("266 KiB", "app.py"), ("3.8 MiB", "tables.py")]
    {
        let entry = said.out.lines().find(|line| line.contains(name) && line.contains("block"));
        assert!(entry.is_some_and(|line| line.contains(size)), "{name}: {}", said.out);
    }
}

#[test]
fn top_limits_the_list_and_says_what_is_left() {
    let folder = folder();
    let path = write(&folder, "a.dump", &leaky().bytes());
    let said = summarize(&path, &["--top", "1"]);
    assert!(said.out.contains("2 more places with"), "{}", said.out);
    let said = summarize(&path, &["--top", "2", "--format", "json"]);
    let value: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(value["survivors"].as_array().unwrap().len(), 2);
    // Two of the heaps, and two of the mappings, of which there is one.
    assert_eq!(value["groups"].as_array().unwrap().len(), 3);
}

#[test]
fn losses_are_said() {
    let folder = folder();
    let mut maker = leaky();
    maker.lost(Lost::Blocks, 5).note("frames are off: CPython 3.99 is unknown");
    maker.site_zero(Numbers::live(4, 4_000));
    maker.nameless(Numbers::live(1, 100));
    let path = write(&folder, "a.dump", &maker.bytes());
    let said = summarize(&path, &[]);
    assert!(said.out.contains("not recorded: 5 blocks without a place"), "{}", said.out);
    assert!(said.out.contains("- frames are off"), "{}", said.out);
    assert!(said.out.contains("stack not recorded"), "{}", said.out);
    let value = json(&[&path]);
    assert_eq!(value["completeness"]["exact"], false);
    assert_eq!(value["completeness"]["lost"]["blocks"], 5);
    assert_eq!(value["memory"]["live_unknown"], 4_100);
}

#[test]
fn a_process_that_was_killed_is_told_from_one_that_runs() {
    let folder = folder();
    let mut maker = Maker::new();
    maker.process("3.12.1", &["python", "x.py"]).heartbeat(5_000_000_000);
    let path = write(&folder, "a.dump", &maker.bytes());
    let said = summarize(&path, &[]);
    assert!(said.out.contains("5.0 s · ended without exit"), "{}", said.out);
    // This process, under its own name.
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let ticks = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap();
    maker.put32(std::mem::offset_of!(pyshim_dump::layout::Header, pid), std::process::id());
    maker.put64(
        std::mem::offset_of!(pyshim_dump::layout::Header, started_ticks),
        ticks.parse().unwrap(),
    );
    let path = write(&folder, "b.dump", &maker.bytes());
    assert!(summarize(&path, &[]).out.contains("· running"));
    assert_eq!(json(&[&path])["process"]["end"]["kind"], "running");
}

/// In another container a process id means nothing; only the dump's own heart tells.
#[test]
fn a_process_of_another_container_runs_while_its_heart_beats() {
    use std::mem::offset_of;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    let folder = folder();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut maker = Maker::new();
    maker.process("3.12.1", &["python", "x.py"]).heartbeat(5_000_000_000);
    maker.put32(offset_of!(pyshim_dump::layout::Header, pid), u32::MAX);
    let started = now.as_nanos() as u64 - 5_000_000_000;
    maker.put64(offset_of!(pyshim_dump::layout::Header, started_unix_ns), started);
    let path = write(&folder, "a.dump", &maker.bytes());
    let dead = summarize(&path, &[]);
    assert!(dead.out.contains("ended without exit"), "killed a moment ago: {}", dead.out);

    let path = write(&folder, "b.dump", &maker.bytes());
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let at = offset_of!(pyshim_dump::layout::Header, heartbeat_ns) as u64;
            let mut beat = 5_000_000_000u64;
            while !enough.load(Relaxed) {
                beat += 1_000_000;
                file.write_all_at(&beat.to_le_bytes(), at).unwrap();
                std::thread::yield_now();
            }
        });
        let alive = summarize(&path, &[]);
        enough.store(true, Relaxed);
        assert!(alive.out.contains("· running"), "{}", alive.out);
    });
}

#[test]
fn truncated_dumps_are_refused() {
    let folder = folder();
    for sealed in [false, true] {
        let mut maker = leaky();
        if !sealed {
            maker = Maker::new();
            maker.process("3.11.7", &["python"]);
        }
        let bytes = maker.bytes();
        for len in (0..bytes.len()).step_by(4096) {
            let path = write(&folder, "cut.dump", &bytes[..len]);
            let trouble = if len == 0 { "empty" } else { "truncated" };
            assert_refused(&summarize(&path, &[]), &path, trouble);
        }
    }
}

#[test]
fn a_packed_dump_says_the_same() {
    let folder = folder();
    let whole = leaky().bytes();
    let packed = pyshim_dump::pack(&whole).expect("it is sealed");
    assert_eq!(packed.len(), packed.bytes().len() as u64);
    let packed = packed.bytes();
    assert!(packed.len() < whole.len() / 4, "{} of {}", packed.len(), whole.len());
    assert_eq!(pyshim_dump::pack(&packed), None, "once is enough");
    let path = write(&folder, "it.dump", &whole);
    let json = ["--format", "json"];
    let expected = summarize(&path, &json).out;
    let path = write(&folder, "it.dump", &packed);
    assert_eq!(summarize(&path, &json).out, expected);

    for len in (0..packed.len()).step_by(512) {
        assert!(pyshim_dump::Dump::parse(&packed[..len]).is_err(), "{len} bytes");
    }
    // What lies beside, others may write when it is sealed: it has no checksum.
    let beside = offset_of!(Header, beside) + offset_of!(Beside, state)..HEADER_LEN;
    for at in (0..packed.len()).filter(|at| !beside.contains(at)) {
        let mut bytes = packed.clone();
        bytes[at] ^= 1 << (at % 8);
        if pyshim_dump::Dump::parse(&bytes).is_ok() && at % 7 == 0 {
            let path = write(&folder, "it.dump", &bytes);
            assert!(summarize(&path, &json).out == expected, "byte {at}");
        }
    }
}

#[test]
fn a_dump_that_is_not_sealed_is_not_packed() {
    let mut maker = Maker::new();
    maker.process("3.11.7", &["python"]);
    assert_eq!(pyshim_dump::pack(&maker.bytes()), None);
}

#[test]
fn bent_bits_change_nothing_or_are_refused() {
    let folder = folder();
    let whole = leaky().bytes();
    let path = write(&folder, "bent.dump", &whole);
    let expected = summarize(&path, &[]).out;
    let header = (0..HEADER_LEN).step_by(61);
    // The log and the blobs lie behind the arrays.
    let log = HEADER_LEN + 1024 * (size_of::<Counters>() + size_of::<Moments>());
    assert!(log < whole.len());
    let rest = (log..whole.len()).step_by(509);
    let arrays = (HEADER_LEN..log).step_by(8_191);
    for at in header.chain(arrays).chain(rest) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let path = write(&folder, "bent.dump", &bytes);
        let said = summarize(&path, &[]);
        match said.status {
            0 => assert_eq!(said.out, expected, "byte {at}"),
            _ => assert_refused(&said, &path, ""),
        }
    }
}

/// A dump that is not sealed has no checksum over its counters: anything may stand in them.
#[test]
fn amounts_of_a_site_are_summed_wherever_they_were_counted() {
    let mut maker = Maker::new();
    let (few, many) = (Numbers::live(5, 700), Numbers::live(5_000_000, 1 << 42));
    let amounts = [many, few, many, few];
    amounts.iter().for_each(|&numbers| _ = maker.nameless(numbers));
    maker.peak(3 << 42, 7);
    let sites = maker.dump().sites;
    // (Site 0 is nobody's.)
    for (site, numbers) in sites.iter().skip(1).zip(amounts) {
        let live = site.totals.live();
        assert_eq!((live.blocks, live.bytes), numbers.allocated);
        assert_eq!((site.last.blocks, site.last.bytes), numbers.last);
        assert_eq!((site.peak.blocks, site.peak.bytes), numbers.peak);
    }
    assert_eq!(sites.len(), 1 + amounts.len());
}

#[test]
fn absurd_counters_do_not_break_the_report() {
    let folder = folder();
    let mut maker = Maker::new();
    maker.process("3.11.7", &["python", "x.py"]).heartbeat(u64::MAX).peak(u64::MAX, u64::MAX);
    let code = maker.code("x.py", u32::MAX, "f");
    let frames =
        [Frame::Native { pc: 0 }, Frame::Python { code, instruction: u32::MAX, entry: false }];
    let most = (u64::MAX, u64::MAX);
    for numbers in [
        Numbers { allocated: most, freed: (0, 0), last: most, peak: most },
        Numbers { allocated: (0, 0), freed: most, last: (0, 0), peak: (1, 0) },
        Numbers { allocated: (1, 0), freed: (0, 5), last: (0, 1), peak: (0, 0) },
    ] {
        maker.site(Origin::PythonSmall, &frames, numbers);
        maker.site(Origin::SharedMemory, &frames, numbers);
    }
    for at_ms in [5, 1, u64::MAX, 0, 3] {
        maker.point(at_ms, &[(1, u64::MAX), (2, 0), (u32::MAX, 7)]);
    }
    for gauge in 0..24 {
        maker
            .put64(std::mem::offset_of!(pyshim_dump::layout::Header, gauges) + gauge * 8, u64::MAX);
    }
    maker.record(&Record::Mark { at_ns: u64::MAX, label: "\x1b[31m".into() });
    let path = write(&folder, "odd.dump", &maker.bytes());
    for options in [
        &[][..],
        &["--peak"],
        &["--by", "library"],
        &["--format", "json"],
        &["--format", "markdown"],
    ] {
        assert_eq!(summarize(&path, options).status, 0, "{options:?}");
        maker.exited(-1, u64::MAX - 1);
        write(&folder, "odd.dump", &maker.bytes());
    }
}

#[test]
fn what_is_no_dump_is_refused() {
    let folder = folder();
    let mut newer = leaky().bytes();
    newer[8] = 9;
    for (bytes, trouble) in [
        (&b"#!/bin/sh\n"[..], "not a pyshim dump"),
        (&[0; 10_000], "not a pyshim dump"),
        (&newer, "dump format 9.0"),
    ] {
        let path = write(&folder, "x", bytes);
        assert_refused(&summarize(&path, &[]), &path, trouble);
    }
    assert_refused(&summarize(folder.path(), &[]), folder.path(), "is a directory");
    let missing = folder.path().join("missing");
    assert_refused(&summarize(&missing, &[]), &missing, "no such file");
    assert_refused(&summarize(Path::new("/dev/zero"), &[]), Path::new("/dev/zero"), "regular file");
}

#[test]
fn one_bad_dump_among_good_ones_is_left_out_and_named() {
    let folder = folder();
    let good = write(&folder, "good", &leaky().bytes());
    let bad = write(&folder, "bad", b"x");
    let mut said = reporter(&["summarize", good.to_str().unwrap(), bad.to_str().unwrap()]);
    let out = std::mem::take(&mut said.out);
    assert!(out.contains("app.py · CPython") && out.contains("left out: "), "{out}");
    assert_refused(&said, &bad, "not a pyshim dump");
}

#[test]
fn a_wrong_call_is_said_and_help_has_examples() {
    let said = reporter(&["summarize"]);
    assert_eq!((said.status, said.out.as_str()), (2, ""));
    assert!(said.err.starts_with("reporter: "), "{}", said.err);
    for verb in [&["--help"][..], &["summarize", "--help"], &["run", "--help"]] {
        let said = reporter(verb);
        assert_eq!((said.status, said.err.as_str()), (0, ""));
        assert!(said.out.contains("Examples:\n  reporter "), "{}", said.out);
    }
}

struct Closed(io::ErrorKind);

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_no_error_and_a_full_disk_is() {
    let folder = folder();
    let path = write(&folder, "a.dump", &leaky().bytes());
    let call = |kind| {
        let mut err = Vec::new();
        let mut closed = Closed(kind);
        let mut streams =
            Streams { out: &mut closed, err: &mut err, colour_out: false, colour_err: false };
        let arguments = ["reporter", "summarize", path.to_str().unwrap()].map(OsString::from);
        let status = cli::main(arguments, &mut streams);
        (status, String::from_utf8(err).unwrap())
    };
    assert_eq!(call(io::ErrorKind::BrokenPipe), (0, String::new()));
    let (status, said) = call(io::ErrorKind::StorageFull);
    assert_eq!(status, 2);
    assert!(said.starts_with("reporter: standard output: cannot be written"), "{said}");
}
