//! Descriptors and the names of dumps.

use std::mem::offset_of;
use std::path::Path;
use std::time::Duration;

use pyshim_dump::layout::{BlobKind, BlobSlot, Header};
use pyshim_dump::record::Origin;
use pyshim_dump::{Amount, Dump};
use pyshim_tests::compare::{assert_made, compare, finish, made_by};
use pyshim_tests::{Run, interpreters, on_every_interpreter};

use super::{B1000, EXITED, assert_all_defined, ended};

/// The map of the process tells its dump by name, for `reporter summarize PID`.
#[test]
fn a_dump_is_mapped_by_its_name() {
    on_every_interpreter(|python| {
        let text = "lines = [line.split() for line in open('/proc/self/maps')]\n\
                    print({line[-1].split('/')[-1] for line in lines if line[1] == 'rw-s'})\n";
        let run = Run::new([python.path.as_os_str(), "-c".as_ref(), text.as_ref()]);
        let ran = run.env("PYSHIM_OUT", "it.dump").shim().success();
        assert_eq!(ran.stdout(), "{'it.dump'}\n");
    });
}

#[test]
fn the_programs_descriptors_are_its_own() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "life/descriptors.py"));
        assert!(ran.stdout().ends_with("intact\n"), "{}", ran.stdout());
        let dump = ran.dump();
        assert_eq!(ended(&dump), EXITED);
        assert!(dump.sites.len() > 9000, "{} sites", dump.sites.len());
        assert_all_defined(&dump);
    });
}

#[test]
fn a_relative_path_is_one_from_the_start() {
    on_every_interpreter(|python| {
        let ran = compare(|| {
            let run = Run::python(python, "life/chdir.py");
            std::fs::create_dir(run.dir().join("folder")).expect("a folder");
            run.env("PYSHIM_OUT", "folder/%e.%p.%%")
        });
        let folder = std::fs::read_dir(ran.dir().join("folder")).expect("the folder");
        let files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
        let [file] = &files[..] else { panic!("{files:?}") };
        let dump = pyshim_tests::read(file);
        let name = file.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        assert!(
            name.starts_with("python") && name.ends_with(&format!(".{}.%", dump.pid)),
            "{name}"
        );
        assert_eq!(ended(&dump), EXITED);
        assert_made(&dump, "life/chdir.py", "keep", 3000, B1000);
        assert_all_defined(&dump);
    });
}

#[test]
fn a_childs_relative_path_is_one_from_the_start_too() {
    on_every_interpreter(|python| {
        let ran = compare(|| {
            let run = Run::python(python, "life/chdir_fork.py");
            std::fs::create_dir(run.dir().join("folder")).expect("a folder");
            run.env("PYSHIM_OUT", "folder/%p.dump")
        });
        assert!(ran.dumps.is_empty(), "{:?}", ran.dumps);
        let folder = std::fs::read_dir(ran.dir().join("folder")).expect("the folder");
        let read = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").path();
        let dumps: Vec<Dump> = folder.map(|entry| pyshim_tests::read(&read(entry))).collect();
        assert_eq!(dumps.len(), 2);
        for dump in &dumps {
            let name = if dump.forked { "of_child" } else { "of_parent" };
            assert_made(dump, "life/chdir_fork.py", name, 1000, B1000);
        }
    });
}

/// Whether a dump was packed: its counters are a blob then.
fn is_packed(path: &Path) -> bool {
    let bytes = std::fs::read(path).expect("the dump");
    let slot = offset_of!(Header, blobs) + BlobKind::Numbers as usize * size_of::<BlobSlot>();
    let active = slot + offset_of!(BlobSlot, active);
    bytes[active..active + 8] != [0; 8]
}

/// Waits until the copy that searches has ended, too.
fn at_rest(path: &Path) -> Dump {
    for _ in 0..1000 {
        let dump = pyshim_tests::read(path);
        if is_packed(path) && dump.snapshots.running.is_none() {
            return dump;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{} does not shrink", path.display());
}

#[test]
fn a_large_dump_shrinks_at_the_end() {
    on_every_interpreter(|python| {
        // Without a snapshot the process is the last to write, with one its copy is.
        for snapshot in ["off", "exit"] {
            let ran = compare(|| {
                let run = Run::python(python, "life/stacks.py");
                run.env("PYSHIM_OUT", "it.dump").env("PYSHIM_SNAPSHOT", snapshot)
            });
            let dump = at_rest(&ran.dir().join("it.dump"));
            assert!(dump.sites.len() > 30_000, "{} sites", dump.sites.len());
            assert_eq!(dump.heap.is_some(), snapshot == "exit");
            assert_eq!(ended(&dump), EXITED);
            // (Until 3.10 a function's frames are small blocks of its own.)
            let blocks = made_by(&dump, "keep").get(&Origin::PythonLarge).copied();
            assert_eq!(blocks, Some(Amount { blocks: 30_000, bytes: 30_000 * B1000 }));
            assert_all_defined(&dump);
            let files = std::fs::read_dir(ran.dir()).expect("the folder");
            let parts = files.filter(|file| {
                let name = file.as_ref().expect("an entry").file_name();
                name.to_string_lossy().contains("part")
            });
            assert_eq!(parts.count(), 0);
        }
    });
}

#[test]
fn a_dump_with_a_second_name_keeps_both() {
    let python = interpreters().last().expect("an interpreter");
    let run = Run::python(python, "life/stacks.py").arg("linked");
    let ran = run.env("PYSHIM_OUT", "it.dump").env("PYSHIM_SNAPSHOT", "off").shim().success();
    let dumps = ["it.dump", "other.dump"].map(|name| {
        let path = ran.dir().join(name);
        let dump = pyshim_tests::read(&path);
        assert!(!is_packed(&path), "{name} was packed");
        (dump.sites.len(), dump.end.is_some())
    });
    assert_eq!(dumps[0], dumps[1]);
    assert!(dumps[0].1);
}

#[test]
fn a_dump_never_overwrites() {
    on_every_interpreter(|python| {
        let run = Run::python(python, "life/hello.py").env("PYSHIM_OUT", "one.dump");
        std::fs::write(run.dir().join("one.dump"), "not yours").expect("a file");
        std::os::unix::fs::symlink("elsewhere", run.dir().join("one.dump.1")).expect("a link");
        let output = finish(run.shimmed());
        let ran = run.ran(output).success();
        assert_eq!(std::fs::read(ran.dir().join("one.dump")).expect("a file"), b"not yours");
        assert!(!ran.dir().join("elsewhere").exists());
        let dump = pyshim_tests::read(&ran.dir().join("one.dump.2"));
        assert_made(&dump, "life/hello.py", "keep", 3000, B1000);
        use std::os::unix::fs::PermissionsExt;
        let file = std::fs::metadata(ran.dir().join("one.dump.2")).expect("the dump");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    });
}
