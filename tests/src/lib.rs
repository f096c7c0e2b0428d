//! What the end-to-end tests share: the built artifacts, the interpreters of
//! this machine, and a way to run a program with and without the shim.

pub mod cases;
pub mod compare;
pub mod heaps;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use pyshim_dump::Dump;
use tempfile::TempDir;

/// The top of the checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ has a parent").to_owned()
}

/// A program of `tests/programs`.
pub fn program(name: &str) -> PathBuf {
    let path = root().join("tests/programs").join(name);
    assert!(path.exists(), "{} is not there", path.display());
    path
}

fn artifact(variable: &str, file: &str) -> PathBuf {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => root().join("target/release").join(file),
    };
    assert!(
        path.exists(),
        "{} is not there: run `cargo build --release` first, or scripts/test",
        path.display()
    );
    path
}

/// `libpyshim.so`, from `PYSHIM_LIB` or the release build.
pub fn library() -> PathBuf {
    artifact("PYSHIM_LIB", "libpyshim.so")
}

/// `reporter`, from `PYSHIM_REPORTER` or the release build.
pub fn reporter() -> PathBuf {
    artifact("PYSHIM_REPORTER", "reporter")
}

/// A CPython of this machine.
#[derive(Clone, Debug)]
pub struct Interpreter {
    /// Such as `3.12.1`.
    pub version: String,
    /// The `12` of it.
    pub minor: u32,
    /// Whether the interpreter is in a libpython rather than in the executable.
    pub shared: bool,
    /// The executable.
    pub path: PathBuf,
}

/// The interpreters to test on: all that `scripts/interpreters` finds, or those
/// whose version begins with one of `PYSHIM_TEST_PYTHONS` (commas between).
/// Fails if there is none; prints what there is.
pub fn interpreters() -> &'static [Interpreter] {
    static FOUND: OnceLock<Vec<Interpreter>> = OnceLock::new();
    FOUND.get_or_init(|| {
        let output = Command::new(root().join("scripts/interpreters"))
            .stderr(Stdio::inherit())
            .output()
            .expect("scripts/interpreters runs");
        let wanted = std::env::var("PYSHIM_TEST_PYTHONS").unwrap_or_default();
        let wanted: Vec<&str> = wanted.split(',').filter(|one| !one.is_empty()).collect();
        let mut found = Vec::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let fields: Vec<&str> = line.split('\t').collect();
            let [version, kind, path] = fields[..] else { panic!("scripts/interpreters: {line}") };
            let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok());
            let fits = |one: &&str| version == *one || version.starts_with(&format!("{one}."));
            if wanted.is_empty() || wanted.iter().any(fits) {
                found.push(Interpreter {
                    version: version.to_owned(),
                    minor: minor.expect("a version has a minor"),
                    shared: kind == "shared",
                    path: path.into(),
                });
            }
        }
        assert!(!found.is_empty(), "no interpreter to test on");
        let list: Vec<String> = found
            .iter()
            .map(|one| {
                format!("{} ({})", one.version, if one.shared { "shared" } else { "static" })
            })
            .collect();
        println!("covered: CPython {}", list.join(", "));
        found
    })
}

/// Runs `test` on every interpreter and reports all failures together.
pub fn on_every_interpreter(test: impl Fn(&Interpreter) + std::panic::RefUnwindSafe) {
    let mut failed = Vec::new();
    for interpreter in interpreters() {
        if std::panic::catch_unwind(|| test(interpreter)).is_err() {
            failed.push(interpreter.version.as_str());
        }
    }
    assert!(failed.is_empty(), "failed on CPython {}", failed.join(", "));
}

/// Whether the long set is to run.
pub fn long() -> bool {
    std::env::var_os("PYSHIM_LONG").is_some()
}

/// A program to run, in a folder of its own that goes with it.
pub struct Run {
    dir: TempDir,
    command: Vec<String>,
    environment: BTreeMap<String, String>,
}

/// What a run left.
pub struct Ran {
    /// Exit status, stdout and stderr.
    pub output: Output,
    /// The dumps, in order of their names.
    pub dumps: Vec<PathBuf>,
    /// Keeps the folder until this is dropped.
    dir: TempDir,
}

impl Run {
    /// A program with its arguments.
    pub fn new<S: AsRef<OsStr>>(command: impl IntoIterator<Item = S>) -> Run {
        let text = |one: S| one.as_ref().to_str().expect("UTF-8").to_owned();
        Run {
            dir: tempfile::tempdir().expect("a temporary folder"),
            command: command.into_iter().map(text).collect(),
            environment: BTreeMap::new(),
        }
    }

    /// A program of `tests/programs` under an interpreter.
    pub fn python(interpreter: &Interpreter, name: &str) -> Run {
        Run::new([interpreter.path.as_path(), &program(name)])
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: &str) -> Run {
        self.command.push(arg.to_owned());
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Run {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The folder in which it runs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The command, not started yet, in its folder, without any setting of the shim.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PYSHIM_")) {
            command.env_remove(name);
        }
        command.env_remove("LD_PRELOAD").env("PYTHONDONTWRITEBYTECODE", "1");
        command.envs(&self.environment);
        command
    }

    /// The command with the shim.
    pub fn shimmed(&self) -> Command {
        let mut command = self.command();
        command.env("LD_PRELOAD", library());
        command
    }

    /// Runs it without the shim.
    pub fn bare(self) -> Ran {
        let output = self.command().output().expect("the program starts");
        self.ran(output)
    }

    /// Runs it with the shim.
    pub fn shim(self) -> Ran {
        let output = self.shimmed().output().expect("the program starts");
        self.ran(output)
    }

    /// Gathers what a run left that the caller started itself.
    pub fn ran(self, output: Output) -> Ran {
        let mut dumps: Vec<PathBuf> = std::fs::read_dir(self.dir.path())
            .expect("the folder is there")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().contains(".dump"))
            // A copy of the program may still be packing one.
            .filter(|path| path.extension().is_none_or(|extension| extension != "part"))
            .collect();
        dumps.sort();
        Ran { output, dumps, dir: self.dir }
    }
}

impl Ran {
    /// Standard output.
    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    /// Standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The folder in which it ran.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Fails unless it ended with status 0.
    pub fn success(self) -> Ran {
        assert!(self.output.status.success(), "{}: {}", self.output.status, self.stderr());
        self
    }

    /// The path of the one dump there must be.
    pub fn dump_path(&self) -> &Path {
        assert_eq!(self.dumps.len(), 1, "{:?}; stderr: {}", self.dumps, self.stderr());
        &self.dumps[0]
    }

    /// The one dump there must be.
    pub fn dump(&self) -> Dump {
        read(self.dump_path())
    }

    /// What `reporter summarize --format json` says of the one dump there must be.
    pub fn summary(&self) -> serde_json::Value {
        summarize(&[self.dump_path()])
    }
}

/// Reads a dump.
pub fn read(path: &Path) -> Dump {
    let bytes = std::fs::read(path).expect("the dump can be read");
    Dump::parse(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What `reporter summarize --format json` says.
pub fn summarize(dumps: &[&Path]) -> serde_json::Value {
    let output = Command::new(reporter())
        .args(["summarize", "--format", "json"])
        .args(dumps)
        .output()
        .expect("the reporter runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the summary is JSON")
}

/// Compiles a C or C++ program of `tests/programs`, once for all tests of this process.
pub fn compile(name: &str, flags: &[&str]) -> PathBuf {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let dir = BUILT.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
    let unique = format!("{name}{}", flags.join("")).replace('/', "_");
    let out = dir.path().join(unique);
    if !out.exists() {
        let compiler = if name.ends_with(".cpp") { "c++" } else { "cc" };
        let status = Command::new(compiler)
            .args(["-g", "-O1", "-Wall", "-fno-inline", "-fno-builtin", "-o"])
            .arg(&out)
            .arg(program(name))
            .args(flags)
            .status()
            .unwrap_or_else(|error| panic!("{compiler}: {error}"));
        assert!(status.success(), "{name} does not compile");
    }
    out
}
