//! Where the system gives nothing: no descriptors, no disk, no memory, no
//! folder, no peace. The program goes on as without the shim; what dump there
//! is can be read.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use pyshim_dump::layout::{EndKind, Lost};
use pyshim_dump::{Amount, Dump};
use pyshim_tests::compare::{assert_made, compare, compare_with, finish, made_by};
use pyshim_tests::heaps::{heap, program};
use pyshim_tests::{Interpreter, Ran, Run, compile, on_every_interpreter, read};

const B1000: u64 = 1033;

/// Sets a limit of the program before it starts.
fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, value: u64) {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: between fork and exec only `setrlimit` is called, which may be called there.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(resource, &limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

fn limited(
    python: &Interpreter,
    name: &str,
    resource: libc::__rlimit_resource_t,
    value: u64,
) -> Ran {
    compare_with(|| Run::python(python, name), |command| limit(command, resource, value))
}

/// Has the system refuse some calls from before the program's start on, as sandboxes do.
fn forbid(command: &mut Command, calls: &'static [libc::c_long]) {
    let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // Of each call: the number, and an error where it is one of these.
    let mut filter = vec![step((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0)];
    for &call in calls {
        let is_it = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        filter.push(libc::sock_filter { jf: 1, ..step(is_it, call as u32) });
        let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
        filter.push(step((libc::BPF_RET | libc::BPF_K) as u16, refused));
    }
    filter.push(step((libc::BPF_RET | libc::BPF_K) as u16, libc::SECCOMP_RET_ALLOW));
    // SAFETY: between fork and exec only `prctl` is called, with a program that outlives the calls.
    unsafe {
        command.pre_exec(move || {
            let program =
                libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            let set = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0;
            if set { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
}

/// Survivors of `keep` in a dump that may have lost some sites.
fn kept(dump: &Dump) -> Amount {
    made_by(dump, "keep").into_values().fold(Amount::default(), |sum, one| sum + one)
}

/// A dump that could not grow says so, and still counts each block somewhere.
fn assert_honest(dump: &Dump) {
    assert_honest_as(dump, "hostile/sites.py");
}

fn assert_honest_as(dump: &Dump, program: &str) {
    let undefined = dump.sites.iter().skip(1).filter(|site| site.stack.is_none()).count();
    let lost: u64 = [Lost::Growth, Lost::Sites, Lost::Definitions]
        .into_iter()
        .map(|reason| dump.lost(reason))
        .sum();
    assert!(undefined == 0 || lost > 0, "{undefined} sites without definition, and nothing lost");
    if lost == 0 {
        assert_made(dump, program, "keep", 3000, B1000);
    }
}

#[test]
fn no_descriptors_left() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "hostile/descriptors.py"));
        assert!(ran.stdout().starts_with("Too many open files"), "{}", ran.stdout());
        let (parent, children) = ran.parent_and_children();
        assert_honest_as(&parent, "hostile/descriptors.py");
        children.iter().for_each(|child| assert!(kept(child).blocks <= 102));
    });
}

#[test]
fn few_descriptors_from_the_start() {
    on_every_interpreter(|python| {
        // With three the loader cannot open a library: neither the shim nor the program's own.
        for most in [4, 5, 8] {
            let ran = limited(python, "hostile/sites.py", libc::RLIMIT_NOFILE, most);
            if ran.output.status.success() {
                assert_honest(&ran.dump());
            }
        }
    });
}

#[test]
fn small_files_only() {
    on_every_interpreter(|python| {
        for most in [0, 1, 4096, 100_000, 300_000, 1 << 20] {
            let ran = limited(python, "hostile/sites.py", libc::RLIMIT_FSIZE, most);
            assert!(ran.output.status.success(), "{}: {}", ran.output.status, ran.stderr());
            for path in &ran.dumps {
                assert!(std::fs::metadata(path).expect("the dump").len() <= most);
                assert_honest(&read(path));
            }
            assert!(ran.dumps.len() <= 1, "{:?}", ran.dumps);
            assert!(most < 1 << 20 || ran.dumps.len() == 1, "there is room for a dump");
        }
    });
}

/// What does not fit into the log is missing, and what comes later may fit again.
#[test]
fn modules_that_the_log_has_no_room_for() {
    let library = compile("ticks.c", &["-shared", "-fPIC"]);
    let library = library.to_str().expect("UTF-8");
    on_every_interpreter(|python| {
        let mut missing = 0;
        for most in [300_000, 320_000, 350_000] {
            let ran = compare_with(
                || Run::python(python, "hostile/libraries.py").arg(library),
                |command| limit(command, libc::RLIMIT_FSIZE, most),
            );
            assert!(ran.output.status.success(), "{}: {}", ran.output.status, ran.stderr());
            let dump = ran.dump();
            assert_honest_as(&dump, "hostile/libraries.py");
            let last = dump.modules.last().map_or(0, |module| module.loaded.id as usize);
            missing += usize::from(dump.modules.len() <= last);
        }
        println!("{}: {missing} dumps with a gap", python.version);
    });
}

/// A small file system of its own, gone when this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: &Path, arguments: &[&str]) -> Option<Mounted> {
        let mounted = Command::new("mount").args(arguments).arg(at).output();
        let trouble = match mounted {
            Ok(output) if output.status.success() => return Some(Mounted(at.to_owned())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        println!("not covered here: mount {} is refused: {trouble}", arguments.join(" "));
        None
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn dumps_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.to_string_lossy().contains(".dump")).collect()
}

#[test]
fn a_full_disk() {
    on_every_interpreter(|python| {
        for size in ["8k", "128k", "256k", "512k", "1m"] {
            let disk = tempfile::tempdir().expect("a folder");
            let option = format!("size={size}");
            let Some(_mounted) =
                Mounted::new(disk.path(), &["-t", "tmpfs", "-o", &option, "tmpfs"])
            else {
                return;
            };
            let out = disk.path().join("%p.dump");
            let out = out.to_str().expect("UTF-8");
            compare(|| Run::python(python, "hostile/sites.py").env("PYSHIM_OUT", out));
            let dumps = dumps_in(disk.path());
            dumps.iter().for_each(|path| assert_honest(&read(path)));
            assert!(dumps.len() == 1 || size == "8k" || size == "128k", "{size}: {dumps:?}");
        }
    });
}

#[test]
fn a_disk_that_somebody_else_fills() {
    on_every_interpreter(|python| {
        let disk = tempfile::tempdir().expect("a folder");
        let Some(_mounted) = Mounted::new(disk.path(), &["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        else {
            return;
        };
        let out = disk.path().join("%p.dump");
        let out = out.to_str().expect("UTF-8");
        let fill = disk.path().join("other");
        compare(|| {
            // Half of it: the dump is created, and cannot grow to the end.
            let _ = std::fs::write(&fill, vec![1u8; 1_700_000]);
            Run::python(python, "hostile/sites.py").env("PYSHIM_OUT", out)
        });
        dumps_in(disk.path()).iter().for_each(|path| assert_honest(&read(path)));
    });
}

#[test]
fn a_disk_that_has_room_again() {
    on_every_interpreter(|python| {
        let disk = tempfile::tempdir().expect("a folder");
        let Some(_mounted) = Mounted::new(disk.path(), &["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
        else {
            return;
        };
        let out = disk.path().join("%p.dump");
        let fill = disk.path().join("other");
        std::fs::write(&fill, vec![1u8; 7_700_000]).expect("there is room for it");
        let run = Run::python(python, "hostile/disk.py").arg(fill.to_str().expect("UTF-8"));
        let output = finish(run.env("PYSHIM_OUT", out.to_str().expect("UTF-8")).shimmed());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let [dump] = &dumps_in(disk.path())[..] else { panic!("one dump") };
        let dump = read(dump);
        assert!(dump.lost(Lost::Growth) > 0, "the disk was never full");
        assert_eq!(dump.lost(Lost::Definitions), 0);
        assert!(dump.sites.iter().skip(1).all(|site| site.stack.is_some()));
    });
}

/// Containers of some years ago know neither call.
#[test]
fn a_sandbox_that_forbids_what_is_new() {
    on_every_interpreter(|python| {
        let text = "\
def keep():
    for n in range(400_000): kept.append([str(n)])
kept = []
keep()
print('done', flush=True)
";
        let run = program(python, text);
        let mut command = run.shimmed();
        forbid(&mut command, &[libc::SYS_process_vm_readv, libc::SYS_close_range]);
        let output = finish(command);
        let ran = run.ran(output);
        assert_eq!((ran.stdout(), ran.stderr()), ("done\n".to_owned(), String::new()));
        assert!(heap(&ran).search.python);
        assert!(kept(&ran.dump()).blocks > 800_000, "{:?}", ran.dump().notes);
    });
}

/// The program runs, and one line on stderr says that nothing is recorded.
fn nowhere(python: &Interpreter, out: &str) {
    let ran = compare(|| Run::python(python, "hostile/sites.py").arg("300").env("PYSHIM_OUT", out));
    assert!(ran.dumps.is_empty(), "{:?}", ran.dumps);
    let run = Run::python(python, "hostile/sites.py").arg("300");
    let run = run.env("PYSHIM_OUT", out).env("PYSHIM_LOG", "stderr");
    let output = finish(run.shimmed());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.starts_with("pyshim[") && said.contains(&out.replace("%p", "")[..5]), "{said}");
}

#[test]
fn no_folder_to_write_to() {
    on_every_interpreter(|python| {
        nowhere(python, "/does/not/exist/%p.dump");
        nowhere(python, "/proc/%p.dump");
        nowhere(python, "/dev/null/%p.dump");
        nowhere(python, &format!("/tmp/{}.dump", "long".repeat(100)));
    });
}

#[test]
fn a_read_only_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(_mounted) = Mounted::new(folder.path(), &["-t", "tmpfs", "-o", "ro", "tmpfs"]) else {
        return;
    };
    on_every_interpreter(|python| {
        nowhere(python, &format!("{}/%p.dump", folder.path().to_str().expect("UTF-8")));
    });
}

#[test]
fn a_dump_that_is_taken_away_while_it_grows() {
    on_every_interpreter(|python| {
        let script = "\
import os, time
kept = []
for number in range(6000):
    scope = {}
    exec('def site(): return [bytes(%d), bytes(900)]' % number, scope)
    kept.append(scope['site']())
    if number == 1000:
        time.sleep(0.1)
        for name in os.listdir('.'):
            if what == 'removed': os.remove(name)
            elif what == 'renamed': os.rename(name, 'other')
            elif name.endswith('.dump'): os.remove(name); open(name, 'wb').write(b'mine')
print(len(kept), sorted(open(name, 'rb').read(4) for name in os.listdir('.')))
";
        let path = python.path.to_str().expect("UTF-8");
        for what in ["removed", "renamed", "replaced"] {
            let script = format!("what = {what:?}\n{script}");
            // Without the shim there is no file to take away: only status and stderr are the same.
            let run = Run::new([path, "-c", &script]);
            let output = finish(run.shimmed());
            assert!(output.status.success(), "{what}: {}", output.status);
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{what}");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let left = match what {
                "removed" => "[]",
                "renamed" => "[b'\\x89PYS']",
                _ => "[b'mine']",
            };
            assert_eq!(said, format!("6000 {left}\n"), "{what}");
        }
    });
}

#[test]
fn little_address_space() {
    on_every_interpreter(|python| {
        for megabytes in [400, 600, 1000] {
            let ran = limited(python, "hostile/memory.py", libc::RLIMIT_AS, megabytes << 20);
            assert!(ran.output.status.success(), "{}: {}", ran.output.status, ran.stderr());
            let dump = ran.dump();
            let lost = dump.lost(Lost::Blocks) + dump.lost(Lost::Sites);
            if lost == 0 {
                assert_made(&dump, "hostile/memory.py", "keep", 3000, B1000);
            }
        }
    });
}

#[test]
fn less_address_space_than_the_shim_wants() {
    on_every_interpreter(|python| {
        let limits = [100, 150, 200, 250, 300].map(|it| (libc::RLIMIT_AS, it));
        for (resource, megabytes) in limits.into_iter().chain([(libc::RLIMIT_DATA, 200)]) {
            let bare = Run::python(python, "hostile/memory.py");
            let mut command = bare.command();
            limit(&mut command, resource, megabytes << 20);
            let expected = finish(command);
            let run = Run::python(python, "hostile/memory.py");
            let mut command = run.shimmed();
            limit(&mut command, resource, megabytes << 20);
            let output = finish(command);
            // How much fits differs; that it goes on to its end does not.
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            let what = format!("{megabytes} MiB: {} {said}", output.status);
            assert_eq!(output.status, expected.status, "{what}");
            assert_eq!(output.stderr, expected.stderr, "{what}");
            assert!(said.ends_with("lives 3000\n") || !expected.status.success(), "{what}");
            run.ran(output).dumps.iter().for_each(|path| drop(read(path)));
        }
    });
}

#[test]
fn wrong_settings_are_said_once_each() {
    on_every_interpreter(|python| {
        let wrong = [
            ("PYSHIM_SAMPLE", "a lot"),
            ("PYSHIM_NATIVE", "some"),
            ("PYSHIM_PYTHON", "yes"),
            ("PYSHIM_FOLLOW", ""),
        ];
        let run = wrong
            .iter()
            .fold(Run::python(python, "life/hello.py"), |run, (name, value)| run.env(name, value));
        let output = finish(run.shimmed());
        let ran = run.ran(output).success();
        let said = ran.stderr();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), wrong.len(), "{said}");
        for ((name, value), line) in wrong.iter().zip(&lines) {
            assert!(
                line.starts_with("pyshim: ") && line.contains(&format!("{name}={value}")),
                "{line}"
            );
        }
        assert_eq!(ran.stdout(), "hello [] __main__\n");
        let settings = &ran.dump().process.settings;
        assert_eq!(settings[..3], ["sample=exact", "native=leaf", "python=1"].map(str::to_owned));
        assert_made(&ran.dump(), "life/hello.py", "keep", 3000, B1000);
    });
}

#[test]
fn a_wrong_setting_is_not_repeated_by_child_programs() {
    on_every_interpreter(|python| {
        let path = python.path.to_str().expect("UTF-8");
        let script =
            "import subprocess; print(subprocess.run(['/bin/sh', '-c', 'echo x; /bin/true']))";
        let run = Run::new([path, "-c", script]).env("PYSHIM_NATIVE", "some");
        let output = finish(run.shimmed());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(said.lines().count(), 1, "{said}");
    });
}

#[test]
fn more_stacks_than_there_is_room_for() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "hostile/stacks.py"));
        assert!(ran.output.status.success(), "{}", ran.stderr());
        let dump = ran.dump();
        // New stacks lose their outer frames, so that what comes late has a line all the same.
        assert_eq!(dump.lost(Lost::Sites), 0);
        assert!(dump.sites.len() > 200_000, "{} stacks", dump.sites.len());
        assert!(dump.notes.iter().any(|note| note.contains("inner Python frames")));
        assert_made(&dump, "hostile/stacks.py", "keep", 3000, B1000);
    });
}

#[test]
fn a_storm_of_signals() {
    on_every_interpreter(|python| {
        let ran = compare(|| Run::python(python, "hostile/storm.py"));
        assert!(ran.output.status.success(), "{}", ran.stderr());
        assert_made(&ran.dump(), "hostile/storm.py", "keep", 3000, B1000);
    });
}

#[test]
fn a_native_signal_handler() {
    let library = compile("ticks.c", &["-shared", "-fPIC"]);
    on_every_interpreter(|python| {
        for native in ["leaf", "full"] {
            let ran = compare(|| {
                let run = Run::python(python, "hostile/native_handler.py");
                run.arg(library.to_str().expect("UTF-8")).env("PYSHIM_NATIVE", native)
            });
            assert!(ran.output.status.success(), "{}", ran.stderr());
            assert_made(&ran.dump(), "hostile/native_handler.py", "keep", 3000, B1000);
        }
    });
}

#[test]
fn a_signal_handler_ends_the_process_wherever_it_is() {
    let made = compile("hostile/handler_exits.c", &[]);
    for after in (0..200).map(|time| 3000 + 61 * time) {
        let run = Run::new([made.to_str().expect("UTF-8"), &after.to_string()]);
        let run = run.env("PYSHIM_FOLLOW", "all");
        let output = finish(run.shimmed());
        let ran = run.ran(output);
        assert_eq!(ran.output.status.code(), Some(7), "after {after} us");
        let end = ran.dump().end.expect("an end");
        assert_eq!((end.kind, end.status), (EndKind::QuickExit, 7));
    }
}

#[test]
fn a_signal_handler_forks_wherever_it_is() {
    let made = compile("hostile/handler_forks.c", &[]);
    let run = Run::new([made.to_str().expect("UTF-8"), "300"]).env("PYSHIM_FOLLOW", "all");
    let output = finish(run.shimmed());
    let ran = run.ran(output);
    assert!(ran.output.status.success(), "{}", ran.stderr());
    let said = ran.stdout();
    let (fine, forks) = said.trim().split_once(" of ").expect("two numbers");
    assert!(fine == forks && forks.parse::<u32>().is_ok_and(|forks| forks >= 300), "{said}");
    for path in &ran.dumps {
        read(path);
    }
}

/// A program that forks so many times, and prints how many children were fine.
fn forks_well(program: &str, times: u32, in_all: u32) {
    let made = compile(program, &["-pthread"]);
    let run = Run::new([made.to_str().expect("UTF-8"), &times.to_string()]);
    let run = run.env("PYSHIM_FOLLOW", "all");
    let output = finish(run.shimmed());
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, format!("{in_all} of {in_all}\n"), "{}", output.status);
    for path in &run.ran(output).dumps {
        read(path);
    }
}

#[test]
fn a_signal_handler_maps_memory_in_the_middle_of_a_fork() {
    forks_well("hostile/signal_in_fork.c", 300, 300);
}

#[test]
fn threads_that_fork_at_once() {
    forks_well("hostile/forks_at_once.c", 100, 600);
}

#[test]
fn a_hundred_forks_beside_eight_threads() {
    on_every_interpreter(|python| {
        // From 3.12 on the interpreter warns of the program's own threads, with the process's id.
        let ran =
            compare(|| Run::python(python, "hostile/forks.py").env("PYTHONWARNINGS", "ignore"));
        assert_eq!(ran.stdout(), "3000 {50} 100\n");
        let (parent, children) = ran.parent_and_children();
        assert_eq!(children.len(), 100);
        assert_made(&parent, "hostile/forks.py", "keep", 3000, B1000);
        assert_made(&parent, "hostile/forks.py", "of_child", 0, 0);
        for child in &children {
            assert_made(child, "hostile/forks.py", "of_child", 50, 2033);
            assert_made(child, "hostile/forks.py", "keep", 0, 0);
        }
    });
}

#[test]
fn deep_recursion() {
    on_every_interpreter(|python| {
        for native in ["leaf", "full"] {
            let ran =
                compare(|| Run::python(python, "hostile/deep.py").env("PYSHIM_NATIVE", native));
            assert!(ran.output.status.success(), "{}", ran.stderr());
            assert_made(&ran.dump(), "hostile/deep.py", "keep", 3001 + 1100, B1000);
        }
    });
}
