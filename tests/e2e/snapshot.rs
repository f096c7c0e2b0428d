//! The heap snapshot: that it is right, and that the program does not notice it.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use pyshim_dump::heap::{Group, Heap, State};
use pyshim_dump::{Amount, Dump};
use pyshim_tests::compare::survivors;
use pyshim_tests::compare::{compare, finish};
use pyshim_tests::heaps::{dump_with_heap, heap, in_state, objects, on_some_interpreters, program};
use pyshim_tests::{Interpreter, Ran, interpreters, long, read, reporter};

fn snapshot(interpreter: &Interpreter, text: &str) -> (Heap, String) {
    let ran = program(interpreter, text).shim().success();
    let found = heap(&ran);
    assert_eq!(found.search.notes, Vec::<String>::new(), "CPython {}", interpreter.version);
    assert!(found.search.at_rest && found.search.all_blocks_known && found.search.python);
    (found, ran.stdout())
}

/// Sum over the groups in a state whose leading objects are of a type.
fn leaders(heap: &Heap, state: State, type_name: &str) -> u64 {
    let fits = |group: &&Group| group.state == state && heap.type_name(group.type_) == type_name;
    heap.groups.iter().filter(fits).map(|group| group.leaders).sum()
}

#[test]
fn the_program_does_not_notice() {
    on_some_interpreters(|interpreter| {
        compare(|| {
            program(
                interpreter,
                "import os, signal, time\n\
                 heard = []\n\
                 signal.signal(signal.SIGCHLD, lambda *a: heard.append(a))\n\
                 kept = []\n\
                 until = time.monotonic() + 1.5\n\
                 while time.monotonic() < until:\n    kept.append([object() for _ in range(10)])\n    \
                 time.sleep(0.001)\n\
                 try:\n    print(os.wait())\nexcept ChildProcessError:\n    print('no children')\n\
                 print(heard)\n\
                 signal.signal(signal.SIGTERM, lambda *a: heard.append('SIGTERM'))\n\
                 os.kill(os.getpid(), signal.SIGTERM)\n\
                 time.sleep(0.01)\n\
                 print(heard, signal.pthread_sigmask(signal.SIG_BLOCK, []))\n",
            )
            .env("PYSHIM_SNAPSHOT", "every=200ms")
        });
    });
}

#[test]
fn a_pipe_closes_when_the_program_ends() {
    let interpreter = &interpreters()[0];
    let text = "kept = [[str(n)] for n in range(400_000)]\nprint('done', flush=True)\n";
    let run = program(interpreter, text);
    let mut command = run.shimmed();
    command.env("PYSHIM_SNAPSHOT", "exit");
    // It reads stdout and stderr to their ends, which a copy that kept them would put off.
    let output = finish(command);
    let ran = run.ran(output);
    assert!(ran.output.status.success() && ran.output.status.signal().is_none());
    assert_eq!(ran.stdout(), "done\n");
    heap(&ran);
}

/// What a file or a device has is not read, be it a terabyte; nor is memory that nobody touched.
#[test]
fn what_is_mapped_and_never_read_stays_so() {
    on_some_interpreters(|interpreter| {
        let (heap, _) = snapshot(
            interpreter,
            "import mmap, os, tempfile\n\
             large, short = tempfile.TemporaryFile(), tempfile.TemporaryFile()\n\
             large.truncate(1 << 40)\n\
             short.truncate(1 << 20)\n\
             kept = [mmap.mmap(large.fileno(), 1 << 40, access=mmap.ACCESS_READ),\n\
             \x20   mmap.mmap(large.fileno(), 1 << 40, flags=mmap.MAP_PRIVATE | 0x4000),\n\
             \x20   mmap.mmap(short.fileno(), 1 << 20, access=mmap.ACCESS_READ),\n\
             \x20   mmap.mmap(-1, 1 << 36, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)]\n\
             short.truncate(0)\n\
             kept[3][1 << 35] = 1\n",
        );
        assert_eq!(heap.search.failed_objects, 0, "CPython {}", interpreter.version);
    });
}

#[test]
fn garbage_is_what_a_collection_finds() {
    on_some_interpreters(|interpreter| {
        let text = |end: &str| {
            format!(
                "import gc\ngc.collect()\ngc.disable()\nclass Ring: pass\n\
                 for n in range(1000):\n    one = Ring()\n    one.me = one\n    one.list = [one, n]\n\
                 del one\n{end}"
            )
        };
        let counted = program(interpreter, &text("print(gc.collect())\n")).bare().success();
        let counted: u64 = counted.stdout().trim().parse().expect("a number");
        let (heap, _) = snapshot(interpreter, &text(""));
        let collector = heap.collector.as_ref().expect("the collector's state");
        assert!(!collector.enabled);
        let found = collector.garbage_objects;
        let off = found.abs_diff(counted);
        assert!(
            off <= counted / 100 + 2,
            "CPython {}: {found}, not {counted}",
            interpreter.version
        );
        // Stale words may join a few rings into one.
        let rings = leaders(&heap, State::Cyclic, "__main__.Ring");
        assert!((950..=1000).contains(&rings), "CPython {}: {rings} rings", interpreter.version);
    });
}

#[test]
fn objects_are_counted_by_type() {
    on_some_interpreters(|interpreter| {
        let (heap, _) = snapshot(
            interpreter,
            "import collections\n\
             class Plain: pass\n\
             class Slots:\n    __slots__ = ('a',)\n\
             class Text(str): pass\n\
             class Number(int): pass\n\
             Point = collections.namedtuple('Point', 'x y')\n\
             kept = [[Plain() for _ in range(301)], [Slots() for _ in range(302)],\n\
                 [Text(n) for n in range(303)], [Number(n) for n in range(304)],\n\
                 [Point(n, n) for n in range(305)]]\n",
        );
        let counts = ["Plain", "Slots", "Text", "Number", "Point"];
        let counts = counts.map(|name| objects(&heap, &format!("__main__.{name}")));
        assert_eq!(counts, [301, 302, 303, 304, 305], "CPython {}", interpreter.version);
    });
}

#[test]
fn what_hangs_from_an_object_is_retained() {
    on_some_interpreters(|interpreter| {
        let (heap, _) = snapshot(
            interpreter,
            "shared = bytearray(1 << 20)\n\
             HOLDER = {n: bytearray(10_000) for n in range(1000)}\n\
             HOLDER['shared'] = shared\n",
        );
        let holder = heap.nodes.iter().find(|node| heap.text(node.label) == "HOLDER");
        let holder = holder.unwrap_or_else(|| panic!("no node; {:?}", heap.groups.first()));
        // The blocks of a thousand bytearrays and their objects, but not what another holds too.
        // (A stale word may make a few of them look held by another: a hundredth or two.)
        let all = 1000 * 10_001;
        let range = all - all / 50..all + 300_000;
        assert!(
            range.contains(&holder.retained),
            "CPython {}: {} retained",
            interpreter.version,
            holder.retained
        );
        assert!((1960..7000).contains(&holder.retained_count), "{}", holder.retained_count);
    });
}

/// What it was forked with is its parent's, and counts there.
#[test]
fn a_forked_process_accounts_for_what_it_allocated() {
    on_some_interpreters(|interpreter| {
        let ran = program(
            interpreter,
            "import os, sys, time\n\
             class Row: pass\n\
             CACHE = [[str(n) * 3, Row(), bytes(2000)] for n in range(20_000)]\n\
             pid = os.fork()\n\
             if pid == 0:\n    mine = []\n    \
             for n in range(150):\n        mine.append(bytearray(20_000)); time.sleep(0.01)\n    \
             sys.exit(0)\n\
             os.waitpid(pid, 0)\n",
        );
        let ran = ran.shim().success();
        let of = |child| {
            let is = |path: &&PathBuf| read(path).forked == child;
            let path = ran.dumps.iter().find(is).expect("a dump of each");
            dump_with_heap(&ran, path)
        };
        let (child, heap) = of(true);
        let (blocks, bytes) =
            heap.sites.iter().fold((0, 0), |sum, one| (sum.0 + one.blocks, sum.1 + one.bytes));
        let live = child.sites.iter().map(|site| survivors(&child, site));
        let live = live.fold(Amount::default(), |sum, one| sum + one);
        let version = &interpreter.version;
        assert!(blocks.abs_diff(live.blocks) <= 20, "CPython {version}: {blocks}, {live:?}");
        assert!(bytes.abs_diff(live.bytes) <= 10_000, "CPython {version}: {bytes}, {live:?}");
        let counts = ["__main__.Row", "bytearray"].map(|name| objects(&heap, name));
        assert_eq!(counts, [0, 150], "CPython {version}");
        // It allocated little, and has a timeline all the same.
        assert!(child.timeline.points.len() > 10, "{} points", child.timeline.points.len());
        assert_eq!(objects(&of(false).1, "__main__.Row"), 20_000);
    });
}

#[test]
fn references_without_a_holder_are_told() {
    on_some_interpreters(|interpreter| {
        let (heap, _) = snapshot(
            interpreter,
            "import ctypes\n\
             class Lost: pass\n\
             raise_count = ctypes.pythonapi.Py_IncRef\n\
             raise_count.argtypes = [ctypes.py_object]\n\
             raise_count.restype = None\n\
             for n in range(500):\n    raise_count(Lost())\n\
             del n\n",
        );
        // A stale word, of a register or a stack, may still lead to a few.
        let lost = leaders(&heap, State::Miscounted, "__main__.Lost");
        assert!((490..=500).contains(&lost), "CPython {}: {lost} lost", interpreter.version);
        let group = heap.groups.iter().find(|group| group.state == State::Miscounted);
        let group = group.expect("a group");
        assert_eq!((group.counted, group.found), (1, 0));
    });
}

#[test]
fn native_blocks_without_a_pointer_are_told() {
    on_some_interpreters(|interpreter| {
        let (heap, _) = snapshot(
            interpreter,
            "import ctypes\n\
             libc = ctypes.CDLL(None)\n\
             libc.malloc.restype = ctypes.c_void_p\n\
             libc.malloc.argtypes = [ctypes.c_size_t]\n\
             table = (ctypes.c_void_p * 400)()\n\
             for n in range(400):\n    table[n] = libc.malloc(3000)\n\
             for n in range(700):\n    libc.malloc(5000)\n\
             del n\n",
        );
        let sum = |state: State, size: u64| -> u64 {
            let groups = heap.groups.iter().filter(|group| group.state == state);
            let members = groups.flat_map(|group| &group.members);
            let fits = members.filter(|one| one.blocks > 0 && one.bytes / one.blocks == size);
            fits.map(|one| one.blocks).sum()
        };
        // Their addresses were ints once: words of them are left in registers, on the stack and in
        // memory that is free, and lead to a few.
        let lost = sum(State::Leaked, 5000);
        assert!((690..=700).contains(&lost), "CPython {}: {lost} lost", interpreter.version);
        assert_eq!(sum(State::Python, 3000), 400, "CPython {}", interpreter.version);
        assert_eq!(sum(State::Leaked, 3000), 0);
    });
}

#[test]
fn the_rows_add_up_to_the_resident_set() {
    on_some_interpreters(|interpreter| {
        let (heap, out) = snapshot(
            interpreter,
            "import atexit, mmap\n\
             kept = [bytes(n) for n in range(5000)]\n\
             large = bytearray(9_000_000)\n\
             mapped = mmap.mmap(-1, 6 << 20, flags=mmap.MAP_PRIVATE)\n\
             mapped.write(b'x' * (6 << 20))\n\
             def resident():\n    \
             lines = open('/proc/self/smaps_rollup').read().splitlines()\n    \
             print([line.split()[1] for line in lines if line.startswith('Rss')][0])\n\
             atexit.register(resident)\n",
        );
        let expected: u64 = out.trim().parse::<u64>().expect("a number") << 10;
        let sum: u64 = heap.memory.iter().map(|row| row.resident).sum();
        let off = sum.abs_diff(expected);
        assert!(
            off <= expected / 20,
            "CPython {}: {sum}, not {expected}: {:?}",
            interpreter.version,
            heap.memory
        );
    });
}

#[test]
fn snapshots_in_the_middle_of_everything() {
    // Eight threads that make and drop all kinds of things while their memory is searched.
    let wanted = if long() { 200 } else { 8 };
    on_some_interpreters(|interpreter| {
        let run = program(
            interpreter,
            "import gc, json, os, threading, time\n\
             ended = False\n\
             class Node: pass\n\
             def work(me):\n    kept, n = {}, 0\n    \
             while not ended:\n        n += 1\n        \
             node = Node(); node.me = node; node.text = json.loads('[1, {\"a\": [2.5, \"b\"]}]')\n        \
             kept[n % 100] = [node] * (n % 50)\n        \
             kept.pop((n * 7) % 100, None)\n        \
             if n % 1000 == 0: gc.collect()\n\
             threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]\n\
             [one.start() for one in threads]\n\
             while not os.path.exists('enough'): time.sleep(0.01)\n\
             ended = True\n\
             [one.join() for one in threads]\n\
             print('worked')\n",
        );
        let mut command = run.shimmed();
        command.env("PYSHIM_SNAPSHOT", "every=100ms").env("PYSHIM_OUT", "it.dump");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let dump = run.dir().join("it.dump");
        let began = Instant::now();
        loop {
            let state = std::fs::read(&dump).ok().and_then(|bytes| Dump::parse(&bytes).ok());
            let state = state.map(|dump| dump.snapshots).unwrap_or_default();
            let over = began.elapsed() > Duration::from_secs(240);
            let ended = child.try_wait().expect("its status").is_some();
            if state.taken >= wanted || state.failed > 0 || over || ended {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::write(run.dir().join("enough"), "").expect("the file is written");
        let ran = run.ran(child.wait_with_output().expect("the program ends")).success();
        assert_eq!(ran.stdout(), "worked\n");
        // The last one too.
        heap(&ran);
        let taken = read(ran.dump_path()).snapshots;
        println!("CPython {}: {} snapshots", interpreter.version, taken.taken);
        assert!(
            taken.failed == 0 && taken.taken >= wanted,
            "CPython {}: {taken:?}",
            interpreter.version
        );
    });
}

#[test]
fn each_is_taken_once() {
    // A copy of so much memory takes a while to end when it has said what it found: by then nobody may
    // take its request for a new one.
    const ASKED: u32 = 8;
    let interpreter = interpreters().last().expect("an interpreter");
    let run = program(
        interpreter,
        "import os\n\
         kept = [b'%07d' % n * 60 for n in range(600_000)]\n\
         open('ready', 'w').close()\n\
         while not os.path.exists('enough'): spare = [None]\n",
    );
    let mut command = run.shimmed();
    command.env("PYSHIM_OUT", "it.dump").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let dump = run.dir().join("it.dump");
    while !run.dir().join("ready").exists() && child.try_wait().expect("its status").is_none() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let said: Vec<Output> = (0..ASKED)
        .map(|_| Command::new(reporter()).arg("snapshot").arg(&dump).output().expect("it runs"))
        .collect();
    let taken = read(&dump).snapshots;
    let left = children(child.id());
    std::fs::write(run.dir().join("enough"), "").expect("the file is written");
    run.ran(child.wait_with_output().expect("the program ends")).success();
    assert!(said.iter().all(|said| said.status.success()), "{said:?}");
    assert_eq!((taken.taken, taken.failed, taken.running), (ASKED, 0, None), "{taken:?}");
    assert_eq!(left, 0, "copies that nobody waited for");
}

/// How many children a process has, those that have ended included.
fn children(pid: u32) -> usize {
    let all = std::fs::read_dir("/proc").expect("the processes").flatten();
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let parent = |stat: &String| stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok();
    all.filter_map(stat).filter(|stat| parent(stat) == Some(pid)).count()
}

/// A name for a moment of a process that is named by its id, and what grew from then on.
#[test]
fn a_moment_is_marked() {
    on_some_interpreters(|interpreter| {
        let text = "import time\n\
                    kept = []\n\
                    until = time.monotonic() + 4\n\
                    while time.monotonic() < until:\n    kept.append(bytes(5000))\n    time.sleep(0.01)\n";
        let run = program(interpreter, text);
        let mut command = run.shimmed();
        command.env("PYSHIM_SNAPSHOT", "off").stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the program starts");
        std::thread::sleep(Duration::from_millis(1000));
        let ask = |arguments: &[&str]| {
            let output = Command::new(reporter()).args(arguments).output().expect("it runs");
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let pid = child.id().to_string();
        assert_eq!(ask(&["mark", &pid, "now"]), (Some(0), String::new()));
        assert_eq!(ask(&["mark", &pid, "two\nlines"]).0, Some(2));
        assert_eq!(ask(&["summarize", &pid, "--since", "now"]).0, Some(0));
        let ran = run.ran(child.wait_with_output().expect("the program ends")).success();
        let marks = read(ran.dump_path()).marks;
        let [(at_ns, label)] = &marks[..] else { panic!("{marks:?}") };
        assert_eq!(label, "now");
        assert!((800_000_000..3_000_000_000).contains(at_ns), "{at_ns}");
    });
}

/// Objects that are not recorded hold what is: they are found by the collector's lists.
#[test]
fn python_holds_what_it_holds_where_it_is_not_recorded() {
    on_some_interpreters(|interpreter| {
        let text = "kept = [bytearray(5000) for _ in range(2000)]\n";
        let ran = program(interpreter, text).env("PYSHIM_PYTHON", "0").shim().success();
        let heap = heap(&ran);
        assert!(!heap.search.all_blocks_known);
        let (held, leaked) = (in_state(&heap, State::Python), in_state(&heap, State::Leaked));
        let what = format!("CPython {}: {held:?} held, {leaked:?} leaked", interpreter.version);
        assert!(held.0 >= 2000 && held.1 >= 10_000_000 && leaked.1 < 100_000, "{what}");
    });
}

#[test]
fn none_is_taken_where_none_is_wanted() {
    let interpreter = &interpreters()[0];
    let text = "kept = [str(n) for n in range(100_000)]\n";
    let ran = program(interpreter, text).env("PYSHIM_SNAPSHOT", "off").shim().success();
    let dump = read(ran.dump_path());
    assert!(dump.heap.is_none() && dump.snapshots.running.is_none() && dump.snapshots.taken == 0);
    let says = |ran: &Ran| {
        let command =
            Command::new(reporter()).arg("why").arg(ran.dump_path()).arg("str").output().unwrap();
        assert_eq!(command.status.code(), Some(2));
        String::from_utf8(command.stderr).unwrap()
    };
    // (It ends within two seconds unless the machine is very busy.)
    let short = dump.end.expect("an end").at_ns < 2_000_000_000;
    let what = if short { "PYSHIM_SNAPSHOT=exit is set" } else { "PYSHIM_SNAPSHOT says otherwise" };
    assert!(says(&ran).contains(what), "{}", says(&ran));
    let killed = format!("{text}import os\nos.kill(os.getpid(), 9)\n");
    let ran = program(interpreter, &killed).env("PYSHIM_SNAPSHOT", "exit").shim();
    assert!(says(&ran).contains("one that is killed leaves none"), "{}", says(&ran));
    let ran = program(interpreter, text).env("PYSHIM_SNAPSHOT", "now").shim().success();
    assert_eq!(ran.stderr().matches("PYSHIM_SNAPSHOT=now").count(), 1, "{}", ran.stderr());
}

#[test]
fn a_small_program_that_ends_soon_is_not_searched_unless_told_to() {
    // What is mapped counts as far as it is touched: libraries of numbers map much that they may need.
    let text = |touched: &str| {
        format!(
            "import mmap\nkept = mmap.mmap(-1, 64 << 20)\nkept[:{touched}] = b'a' * ({touched})\n"
        )
    };
    let interpreter = &interpreters()[0];
    let run = |touched: &str, at_exit: &str| {
        let run = program(interpreter, &text(touched)).env("PYSHIM_SNAPSHOT", at_exit);
        let mut command = run.shimmed();
        if at_exit.is_empty() {
            command.env_remove("PYSHIM_SNAPSHOT");
        }
        let output = command.output().expect("the program starts");
        run.ran(output).success()
    };
    let dump = read(run("1 << 20", "").dump_path());
    let soon = dump.final_ns.expect("a teardown") < 1_900_000_000;
    // (On a machine that is busy it may not have ended soon.)
    assert!(!soon || (dump.heap.is_none() && dump.snapshots.running.is_none()));
    heap(&run("1 << 20", "exit"));
    heap(&run("32 << 20", ""));
}
