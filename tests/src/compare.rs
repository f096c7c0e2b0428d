//! The same program without and with the shim: what its user sees must not differ.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use pyshim_dump::record::{Frame, Origin};
use pyshim_dump::{Amount, Dump, Site};

use crate::{Ran, Run, read};

/// No program of these tests takes this long: one that does hangs.
const PATIENCE: Duration = Duration::from_secs(150);

/// Runs `command` to its end. Fails if it hangs, and ends all its processes then.
pub fn finish(mut command: Command) -> Output {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn().expect("the program starts");
    let group = child.id() as i32;
    let out = drain(child.stdout.take().expect("a pipe"));
    let err = drain(child.stderr.take().expect("a pipe"));
    let started = Instant::now();
    // The pipes close when the last process that has them ends: helpers count too.
    while !out.is_finished() || !err.is_finished() {
        if started.elapsed() > PATIENCE {
            // SAFETY: a signal to the process group that was made for this run.
            unsafe { libc::kill(-group, libc::SIGKILL) };
            let _ = child.wait();
            let (out, err) = (out.join(), err.join());
            panic!("{command:?} hangs; it said {:?}, {:?}", text(out), text(err));
        }
        thread::sleep(Duration::from_millis(2));
    }
    let status = child.wait().expect("the program ends");
    Output {
        status,
        stdout: out.join().expect("stdout was read"),
        stderr: err.join().expect("stderr was read"),
    }
}

fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

fn text(bytes: thread::Result<Vec<u8>>) -> String {
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// Runs what `make` makes without and with the shim, and fails unless stdout,
/// stderr and exit status are the same. Returns the run with the shim.
pub fn compare(make: impl Fn() -> Run) -> Ran {
    compare_with(make, |_| {})
}

/// [`compare`], where `prepare` changes both commands before they start.
pub fn compare_with(make: impl Fn() -> Run, prepare: impl Fn(&mut Command)) -> Ran {
    let start = |run: Run, shim: bool| {
        let mut command = if shim { run.shimmed() } else { run.command() };
        prepare(&mut command);
        let output = finish(command);
        run.ran(output)
    };
    let bare = start(make(), false);
    let shim = start(make(), true);
    let seen = |ran: &Ran| {
        let dir = ran.dir().to_string_lossy().into_owned();
        (
            ran.output.status,
            ran.stdout().replace(&dir, "<dir>"),
            ran.stderr().replace(&dir, "<dir>"),
        )
    };
    let (expected, got) = (seen(&bare), seen(&shim));
    assert!(
        got == expected,
        "not as without the shim\nwithout: {}\n{}{}\nwith: {}\n{}{}",
        expected.0,
        expected.1,
        expected.2,
        got.0,
        got.1,
        got.2
    );
    assert!(bare.dumps.is_empty(), "{:?}", bare.dumps);
    shim
}

impl Ran {
    /// All dumps, read.
    pub fn all_dumps(&self) -> Vec<Dump> {
        self.dumps.iter().map(|path| read(path)).collect()
    }

    /// The dump of the process that was started, and those of the others.
    pub fn parent_and_children(&self) -> (Dump, Vec<Dump>) {
        let mut dumps = self.all_dumps();
        let pids: Vec<u32> = dumps.iter().map(|dump| dump.pid).collect();
        let roots: Vec<usize> =
            (0..dumps.len()).filter(|&index| !pids.contains(&dumps[index].parent_pid)).collect();
        assert_eq!(roots.len(), 1, "one first process in {:?}; {}", self.dumps, self.stderr());
        (dumps.remove(roots[0]), dumps)
    }
}

/// What survived of a site: before the teardown, or else as it stands.
pub fn survivors(dump: &Dump, site: &Site) -> Amount {
    if dump.final_ns.is_some() { site.last } else { site.totals.live() }
}

/// The innermost Python function of a site, with its first line.
pub fn function<'a>(dump: &'a Dump, site: &Site) -> Option<(&'a str, u32)> {
    let stack = site.stack.as_ref()?;
    let code = dump.frames(stack).find_map(|frame| match frame {
        Frame::Python { code, .. } => Some(code),
        Frame::Native { .. } => None,
    })?;
    let code = dump.codes.get(code as usize)?.as_ref()?;
    Some((&code.name, code.first_line))
}

/// What survives of what the Python function `name` allocated itself, by origin.
pub fn made_by(dump: &Dump, name: &str) -> BTreeMap<Origin, Amount> {
    let mut made: BTreeMap<Origin, Amount> = BTreeMap::new();
    for site in dump.sites.iter().filter(|site| function(dump, site).is_some_and(|it| it.0 == name))
    {
        let survived = survivors(dump, site);
        if let Some(stack) = site.stack.as_ref().filter(|_| survived.blocks > 0) {
            let sum = made.entry(stack.origin).or_default();
            *sum = *sum + survived;
        }
    }
    made
}

/// What was ever allocated by the Python function `name` itself.
pub fn ever_made_by(dump: &Dump, name: &str) -> Amount {
    let own = dump.sites.iter().filter(|site| function(dump, site).is_some_and(|it| it.0 == name));
    own.fold(Amount::default(), |sum, site| sum + site.totals.allocated)
}

/// Until 3.10 a function that was called 1024 times gets two small blocks for its
/// look-ups of globals, allocated as it runs.
pub fn has_look_up_cache(dump: &Dump) -> bool {
    ["3.8.", "3.9.", "3.10."].iter().any(|version| dump.process.python.starts_with(version))
}

/// Fails unless exactly `blocks` blocks of `size` bytes survive that `name`
/// made, whatever the allocator, and they are at the line where `program` defines it.
pub fn assert_made(dump: &Dump, program: &str, name: &str, blocks: u64, size: u64) {
    let made = made_by(dump, name);
    let mut sum = made.values().fold(Amount::default(), |sum, &one| sum + one);
    let wanted = Amount { blocks, bytes: blocks * size };
    let cache = Amount {
        blocks: sum.blocks.saturating_sub(wanted.blocks),
        bytes: sum.bytes.saturating_sub(wanted.bytes),
    };
    if has_look_up_cache(dump) && cache.blocks <= 2 && cache.bytes <= 64 {
        sum = Amount { blocks: sum.blocks - cache.blocks, bytes: sum.bytes - cache.bytes };
    }
    assert_eq!(sum, wanted, "what {name} made: {made:?}; notes: {:?}", dump.notes);
    if blocks > 0 {
        let source =
            std::fs::read_to_string(crate::program(program)).expect("the program's source");
        let line = source.lines().position(|line| line.contains(&format!("def {name}(")));
        let line = line.expect("the program defines it") as u32 + 1;
        let mut lines: Vec<u32> = dump
            .sites
            .iter()
            .filter_map(|site| function(dump, site).filter(|_| survivors(dump, site).blocks > 0))
            .filter_map(|(function, line)| (function == name).then_some(line))
            .collect();
        lines.dedup();
        assert_eq!(lines, [line], "the line of {name}");
    }
}
