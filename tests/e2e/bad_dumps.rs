//! Dumps that are damaged, foreign or not there: one clear line, exit status 2,
//! never a panic, and never a wrong report.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use pyshim_dump::layout::{HEADER_LEN, MAJOR, MINOR, SEALED_LEN};
use pyshim_dump::{Dump, Error};
use pyshim_tests::{Run, interpreters, program, reporter};
use tempfile::TempDir;

/// The bytes of a dump that ended cleanly.
fn whole() -> &'static [u8] {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let python = interpreters().last().expect("an interpreter");
        let ran = Run::python(python, "life/hello.py").shim().success();
        assert!(ran.dump().end.is_some(), "it ended cleanly");
        std::fs::read(ran.dump_path()).expect("the dump")
    })
}

fn with(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = whole().to_vec();
    change(&mut bytes);
    bytes
}

/// Length at every 4 KiB below the whole.
fn lengths() -> impl Iterator<Item = usize> {
    (0..whole().len()).step_by(4096)
}

/// Positions of bits: the header densely, and all of the file; the same in each run.
fn bits() -> Vec<(usize, u8)> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut bits = Vec::new();
    for _ in 0..200 {
        bits.push((draw(HEADER_LEN), 1 << draw(8)));
        bits.push((draw(whole().len()), 1 << draw(8)));
    }
    bits
}

/// Another kind of file, or a dump that nobody can read yet.
fn others() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let crc = |bytes: &mut Vec<u8>| {
        let crc = crc32(&bytes[..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
    };
    vec![
        ("empty", Vec::new(), "empty"),
        (
            "magic",
            with(|bytes| bytes[..8].copy_from_slice(b"\x7fELF\0\0\0\0")),
            "not a pyshim dump",
        ),
        ("text", b"import sys\n".repeat(1000), "not a pyshim dump"),
        ("short", b"\x89PY".to_vec(), "truncated"),
        (
            "newer",
            with(|bytes| {
                bytes[8..10].copy_from_slice(&(MAJOR + 1).to_le_bytes());
                crc(bytes);
            }),
            format!("format {}.{MINOR}", MAJOR + 1).leak(),
        ),
        (
            "far newer",
            with(|bytes| bytes[8..12].copy_from_slice(&[0xff, 0xff, 7, 0])),
            "format 65535.7",
        ),
        ("zeros", vec![0; 100_000], "not a pyshim dump"),
        ("header only", with(|bytes| bytes.truncate(HEADER_LEN)), "truncated"),
        ("zeros after the header", with(|bytes| bytes[HEADER_LEN..].fill(0)), "corrupt"),
        ("ones after the header", with(|bytes| bytes[HEADER_LEN..].fill(0xff)), "corrupt"),
    ]
}

fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[test]
fn truncated_dumps_are_refused() {
    for length in lengths() {
        let error = Dump::parse(&whole()[..length]).err();
        let fits = match &error {
            Some(Error::Empty) => length == 0,
            Some(Error::Truncated { have, need }) => {
                *have == length as u64 && (length < HEADER_LEN || *need == whole().len() as u64)
            }
            _ => false,
        };
        assert!(fits, "{length} bytes: {error:?}");
    }
}

#[test]
fn a_bent_bit_is_found_or_changes_nothing() {
    // How snapshots went is written beside the seal, by others than the process.
    let content = |mut dump: Dump| {
        dump.snapshots = Default::default();
        format!("{dump:?}")
    };
    let expected = content(Dump::parse(whole()).expect("a dump"));
    let mut found = 0;
    for (at, bit) in bits() {
        match Dump::parse(&with(|bytes| bytes[at] ^= bit)) {
            Err(_) => found += 1,
            Ok(dump) => {
                assert!(content(dump) == expected, "bit {bit} of byte {at} changes the content");
                assert!(at >= SEALED_LEN, "bit {bit} of byte {at} of the header goes unnoticed");
            }
        }
    }
    assert!(found >= 250, "only {found} found");
}

#[test]
fn other_files_are_refused() {
    for (name, bytes, trouble) in others() {
        let error = Dump::parse(&bytes).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(trouble), "{name}: {error}");
    }
}

/// A folder for one test, with a dump in it under a name that nobody needs to quote.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("pyshim.1234.dump");
        std::fs::write(&path, bytes).expect("a file");
        path
    }
}

fn summarize(path: &Path) -> Output {
    let mut command = Command::new(reporter());
    command.arg("summarize").arg(path).env_remove("RUST_BACKTRACE");
    command.output().expect("the reporter runs")
}

/// Exit status 2, nothing on stdout, and one line that names file and trouble.
fn assert_refused(output: &Output, path: &Path, trouble: &str, what: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {said}");
    assert!(output.stdout.is_empty(), "{what}: {}", String::from_utf8_lossy(&output.stdout));
    assert!(said.ends_with('\n') && said.lines().count() == 1, "{what}: {said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    assert!(said.contains(&*path.to_string_lossy()), "{what} does not name the file: {said}");
    let names = said.to_lowercase().contains(&trouble.to_lowercase());
    assert!(names, "{what} does not name the trouble, {trouble}: {said}");
}

#[test]
fn the_reporter_refuses_truncated_dumps() {
    let folder = Folder::new();
    for length in lengths() {
        let path = folder.file(&whole()[..length]);
        let trouble = if length == 0 { "empty" } else { "truncated" };
        assert_refused(&summarize(&path), &path, trouble, &format!("{length} bytes"));
    }
}

#[test]
fn the_reporter_finds_bent_bits() {
    let folder = Folder::new();
    let expected = summarize(&folder.file(whole()));
    assert!(expected.status.success(), "{}", String::from_utf8_lossy(&expected.stderr));
    for (at, bit) in bits() {
        let path = folder.file(&with(|bytes| bytes[at] ^= bit));
        let output = summarize(&path);
        if output.status.success() {
            assert!(output.stdout == expected.stdout, "bit {bit} of byte {at} changes the report");
        } else {
            assert_refused(&output, &path, "", &format!("bit {bit} of byte {at}"));
        }
    }
}

#[test]
fn the_reporter_refuses_other_files() {
    let folder = Folder::new();
    for (name, bytes, trouble) in others() {
        let path = folder.file(&bytes);
        assert_refused(&summarize(&path), &path, trouble, name);
    }
}

#[test]
fn the_reporter_refuses_what_is_no_file() {
    let folder = Folder::new();
    assert_refused(&summarize(folder.0.path()), folder.0.path(), "directory", "a directory");
    let missing = folder.0.path().join("nothing.dump");
    assert_refused(&summarize(&missing), &missing, "No such file", "a missing file");
    let link = folder.0.path().join("loop.dump");
    std::os::unix::fs::symlink(&link, &link).expect("a link");
    assert_refused(&summarize(&link), &link, "symbolic link", "a loop of links");
    let device = Path::new("/dev/null");
    assert_refused(&summarize(device), device, "", "a device");
    let program = program("life/hello.py");
    assert_refused(&summarize(&program), &program, "not a pyshim dump", "a program");
}

#[test]
fn the_reporter_refuses_what_it_may_not_read() {
    let folder = Folder::new();
    let path = folder.file(whole());
    let open = |path: &Path, mode| {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("permissions");
    };
    open(folder.0.path(), 0o755);
    open(&path, 0o000);
    // Root may read anything: as nobody then, from a place that nobody can reach.
    let own = folder.0.path().join("reporter");
    // By a process of its own: a child that another test forks meanwhile would hold a copy of ours open,
    // and what is open for writing cannot be run.
    let copied = Command::new("cp").arg(reporter()).arg(&own).status().expect("cp runs");
    assert!(copied.success(), "a copy of the reporter");
    let mut command = Command::new(&own);
    command.arg("summarize").arg(&path).env_remove("RUST_BACKTRACE").current_dir("/");
    // SAFETY: `getuid` has no conditions.
    if unsafe { libc::getuid() } == 0 {
        command.uid(65534).gid(65534);
    }
    let output = command.output().expect("the reporter runs");
    assert_refused(&output, &path, "Permission denied", "an unreadable file");
}

#[test]
fn one_bad_dump_among_good_ones_is_left_out_and_named() {
    let folder = Folder::new();
    let good = folder.0.path().join("good.dump");
    std::fs::write(&good, whole()).expect("a file");
    let bad = folder.file(&whole()[..8192]);
    let mut output = Command::new(reporter())
        .arg("summarize")
        .args([&good, &bad])
        .output()
        .expect("the reporter runs");
    let report = String::from_utf8_lossy(&std::mem::take(&mut output.stdout)).into_owned();
    assert!(report.contains("hello.py") && report.contains(&*bad.to_string_lossy()), "{report}");
    assert_refused(&output, &bad, "truncated", "one of two");
}
