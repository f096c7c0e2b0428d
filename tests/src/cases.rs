//! The programs of `tests/cases`: each grows for one reason, or does not, and
//! says at its top what a report must say of it.
//!
//! The top of a case is comment lines, before the first line of code:
//!
//! | line | what it asks of the first cause |
//! |---|---|
//! | `# kind: K` or `# kind: K \| L` | its kind, which is the verdict's too; `none` if nothing may be a cause |
//! | `# holder: TEXT` | its holder contains the text (may be repeated, as may those below) |
//! | `# native: FUNCTION` | a native frame of its site is in this function |
//! | `# native-leads: FUNCTION` | the innermost native frame of the program's own is in this function |
//! | `# evidence: TEXT`, `# advice: TEXT` | are in its evidence and its advice |
//! | `# type: NAME` | its type |
//! | `# confidence: certain` | its confidence; otherwise `likely` is enough |
//! | `# no-python-line` | its site has no Python frame; otherwise one of the lines that carry the comment `# LEAK` is the innermost of the case's file |
//! | `# tick: BYTES` | what each tick (see `support/pace.py`) leaves behind; its bytes must come to that |
//! | `# also: KIND` | another cause is of this kind |
//! | `# pythons: >=3.9` or `# pythons: <3.12` | the versions it is for |
//! | `# python: 3.9`, `# fixed-python: 3.12` | only for `scripts/real-leaks`: which interpreter |
//! | `# env: NAME=VALUE` | an environment variable of the run |
//! | `# ends: killed` | it kills itself; otherwise it must end with status 0 |
//!
//! Other comment lines are for people.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::{Interpreter, Run, reporter, root};

/// What a summary says of the causes. The survivors are left out: they are many, and reading all
/// of them as values takes longer than the program ran.
#[derive(Deserialize)]
pub struct Summary {
    /// Of the process: at least its ids.
    pub process: Value,
    /// The verdict, if the reporter gives one.
    #[serde(default)]
    pub verdict: Value,
    /// The causes, the first first.
    #[serde(default)]
    pub causes: Vec<Value>,
    /// The table of memory, for messages.
    #[serde(default)]
    pub memory: Value,
    /// The growth, for messages.
    #[serde(default)]
    pub growth: Value,
    /// What is known to be missing.
    #[serde(default)]
    pub completeness: Value,
}

impl Summary {
    /// Asks the reporter about a dump.
    pub fn of(dump: &Path) -> Result<Summary, String> {
        let output = Command::new(reporter())
            .args(["summarize", "--format", "json"])
            .arg(dump)
            .output()
            .map_err(|error| error.to_string())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        serde_json::from_slice(&output.stdout).map_err(|error| format!("no summary: {error}"))
    }
}

/// A program and what is expected of it.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// Its file name without `.py`.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// Any of these kinds.
    pub kinds: Vec<String>,
    /// Texts that must be in the holder.
    pub holder: Vec<String>,
    /// Functions among the native frames.
    pub native: Vec<String>,
    /// The function of the innermost native frame that is the program's.
    pub native_leads: Option<String>,
    /// Texts that must be in the evidence.
    pub evidence: Vec<String>,
    /// Texts that must be in the advice.
    pub advice: Vec<String>,
    /// The type of what leaks.
    pub type_name: Option<String>,
    /// Whether it has to be certain.
    pub certain: bool,
    /// No Python frame belongs to the site.
    pub no_python_line: bool,
    /// The lines with the comment `# LEAK`.
    pub lines: Vec<u64>,
    /// What each tick leaves behind.
    pub tick: Option<u64>,
    /// Kinds of further causes.
    pub also: Vec<String>,
    /// The first minor version, and the first that is too new.
    pub minors: (u32, u32),
    /// Environment.
    pub environment: Vec<(String, String)>,
    /// Ends by a signal of its own.
    pub killed: bool,
}

impl Case {
    /// Reads the expectation at the top of a program. Anything that is not understood is an error.
    pub fn read(path: &Path) -> Result<Case, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let stem = path.file_stem().ok_or("no name")?.to_string_lossy().into_owned();
        let mut case =
            Case { name: stem, path: path.to_owned(), minors: (0, u32::MAX), ..Case::default() };
        for line in text.lines().map_while(|line| line.strip_prefix('#')) {
            case.line(line.trim())?;
        }
        if case.kinds.is_empty() {
            return Err("it has no `# kind:`".into());
        }
        let numbered = text.lines().zip(1..);
        case.lines = numbered.filter(|(line, _)| line.ends_with("# LEAK")).map(|it| it.1).collect();
        let located = case.no_python_line || !case.lines.is_empty();
        if case.is_control() == located {
            return Err("a case marks its lines with `# LEAK`, a control has none".into());
        }
        Ok(case)
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let (key, value) = match line.split_once(": ") {
            Some((key, value)) => (key, value.trim()),
            None => (line, ""),
        };
        let owned = || value.to_owned();
        match key {
            "kind" => self.kinds = value.split('|').map(|kind| kind.trim().to_owned()).collect(),
            "holder" => self.holder.push(owned()),
            "native" => self.native.push(owned()),
            "native-leads" => self.native_leads = Some(owned()),
            "evidence" => self.evidence.push(owned()),
            "advice" => self.advice.push(owned()),
            "type" => self.type_name = Some(owned()),
            "confidence" if value == "certain" => self.certain = true,
            "no-python-line" if value.is_empty() => self.no_python_line = true,
            "also" => self.also.push(owned()),
            "tick" => self.tick = Some(value.parse().map_err(|_| format!("tick: {value}"))?),
            "ends" if value == "killed" => self.killed = true,
            // Says which interpreter; scripts/real-leaks has chosen it.
            "python" | "fixed-python" => {}
            "pythons" => {
                let minor = |text: &str| text.strip_prefix("3.").and_then(|it| it.parse().ok());
                match (value.strip_prefix(">="), value.strip_prefix('<')) {
                    (Some(from), _) => self.minors.0 = minor(from).ok_or(owned())?,
                    (_, Some(below)) => self.minors.1 = minor(below).ok_or(owned())?,
                    _ => return Err(format!("pythons: {value}")),
                }
            }
            "env" => {
                let (name, value) = value.split_once('=').ok_or("env: NAME=VALUE")?;
                self.environment.push((name.to_owned(), value.to_owned()));
            }
            // A word and a colon is meant for the harness; the rest is prose.
            _ if line.contains(": ") && !key.contains(' ') => {
                return Err(format!("`{key}` is not known"));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether nothing may be found in it.
    pub fn is_control(&self) -> bool {
        self.kinds == ["none"]
    }

    /// Whether it is for this interpreter.
    pub fn fits(&self, interpreter: &Interpreter) -> bool {
        (self.minors.0..self.minors.1).contains(&interpreter.minor)
    }

    /// The same program with what it uses put right: nothing may be found in it.
    pub fn fixed(mut self) -> Case {
        self.kinds = vec!["none".into()];
        self.tick = None;
        self
    }

    /// The program, to run for so many seconds.
    pub fn run(&self, interpreter: &Interpreter, seconds: f64) -> Run {
        let mut paths = vec![root().join("tests/cases/support")];
        if self.path.starts_with(root().join("tests/cases")) {
            paths.push(extensions(interpreter));
        }
        let paths = std::env::join_paths(paths).expect("no colons in paths");
        let run = Run::new([interpreter.path.as_path(), &self.path])
            .arg(&seconds.to_string())
            .env("PYTHONPATH", paths.to_str().expect("UTF-8"));
        self.environment.iter().fold(run, |run, (name, value)| run.env(name, value))
    }

    /// What is wrong with a summary of this program, one complaint a line.
    ///
    /// `ticks` is how often it ran, by its own account.
    pub fn judge(&self, summary: &Summary, ticks: u64) -> Vec<String> {
        let mut wrong = Vec::new();
        let verdict = summary.verdict["kind"].as_str().unwrap_or("no verdict at all");
        if !self.kinds.iter().any(|kind| kind == verdict) {
            wrong.push(format!("the verdict is {verdict}, not {}", self.kinds.join(" or ")));
        }
        let causes = &summary.causes;
        if self.is_control() {
            if summary.verdict["growing"] == true {
                wrong.push("the verdict says that it grows".into());
            }
            let named = |cause: &&Value| cause["confidence"] != "possible";
            let list = causes.iter().filter(named).map(|it| format!("a cause was named: {it}"));
            wrong.extend(list);
            return wrong;
        }
        match causes.first() {
            Some(first) => self.judge_first(first, ticks, &mut wrong),
            None => wrong.push("no cause is named".into()),
        }
        for kind in &self.also {
            if !causes.iter().skip(1).any(|cause| cause["kind"] == kind.as_str()) {
                wrong.push(format!("no further cause is {kind}"));
            }
        }
        wrong
    }

    fn judge_first(&self, cause: &Value, ticks: u64, wrong: &mut Vec<String>) {
        let text = |name: &str| cause[name].as_str().unwrap_or_default().to_owned();
        if !self.kinds.contains(&text("kind")) {
            wrong.push(format!("the first cause is {}", cause["kind"]));
        }
        let sure = text("confidence");
        if !(sure == "certain" || sure == "likely" && !self.certain) {
            wrong.push(format!("it is {}", cause["confidence"]));
        }
        if self.type_name.as_ref().is_some_and(|name| *name != text("type")) {
            wrong.push(format!("its type is {}", cause["type"]));
        }
        let evidence = match &cause["evidence"] {
            Value::Array(lines) => {
                lines.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        };
        for (name, value) in [("evidence", &evidence), ("advice", &text("advice"))] {
            if value.is_empty() {
                wrong.push(format!("it has no {name}"));
            }
        }
        let (holder, advice) = (text("holder"), text("advice"));
        for (name, value, expected) in [
            ("holder", &holder, &self.holder),
            ("evidence", &evidence, &self.evidence),
            ("advice", &advice, &self.advice),
        ] {
            for missing in expected.iter().filter(|expected| !value.contains(*expected)) {
                wrong.push(format!("its {name} lacks {missing:?}: {value:?}"));
            }
        }
        self.judge_site(&cause["site"], wrong);
        if let Some(tick) = self.tick {
            // More by allocators' and owners' overhead; less by a start-up that is left out.
            let (bytes, expected) = (cause["bytes"].as_f64().unwrap_or(0.0), tick * ticks);
            if !(0.7..2.0).contains(&(bytes / expected as f64)) {
                wrong.push(format!("it has {bytes} bytes; the program left {expected}"));
            }
        }
    }

    fn judge_site(&self, site: &Value, wrong: &mut Vec<String>) {
        let none = Vec::new();
        let python = site["python"].as_array().unwrap_or(&none);
        let native = site["native"].as_array().unwrap_or(&none);
        let own = self.path.to_string_lossy();
        let innermost = python.iter().find(|frame| frame["file"] == *own);
        let line = innermost.and_then(|frame| frame["line"].as_u64());
        if self.no_python_line {
            if !python.is_empty() {
                wrong.push("its site has Python frames".into());
            }
        } else if !line.is_some_and(|line| self.lines.contains(&line)) {
            wrong.push(format!("its line is {line:?}, not one of {:?}", self.lines));
        }
        // A C++ name may be whole, with namespace and arguments.
        let is = |frame: &Value, function: &str| {
            let found = frame["function"].as_str().unwrap_or_default();
            let bare = found.split('(').next().unwrap_or_default();
            bare == function || bare.ends_with(&format!("::{function}"))
        };
        for function in &self.native {
            if !native.iter().any(|frame| is(frame, function)) {
                wrong.push(format!("none of its native frames is {function}"));
            }
        }
        if let Some(function) = &self.native_leads {
            let first = native.iter().find(|frame| frame["role"] == "program");
            if !first.is_some_and(|frame| is(frame, function)) {
                wrong.push(format!("its innermost own native frame is not {function}: {first:?}"));
            }
        }
    }
}

/// All programs of `tests/cases`, by name. Fails if one has no expectation that is understood.
pub fn all() -> Vec<Case> {
    let folder = root().join("tests/cases");
    let entries = std::fs::read_dir(&folder).expect("tests/cases");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|it| it == "py")).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        Case::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    paths.iter().map(read).collect()
}

/// The folder with the extensions of `tests/cases/ext`, built for an interpreter once a process.
pub fn extensions(interpreter: &Interpreter) -> PathBuf {
    static BUILT: OnceLock<TempDir> = OnceLock::new();
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let top = BUILT.get_or_init(|| tempfile::tempdir().expect("a temporary folder"));
    let key = interpreter.path.to_string_lossy().replace('/', "_");
    let folder = top.path().join(key);
    if !folder.exists() {
        let output = Command::new(root().join("tests/cases/ext/build.sh"))
            .arg(&interpreter.path)
            .arg(&folder)
            .output()
            .expect("tests/cases/ext/build.sh runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            // Not left for the next one to take for built.
            let _ = std::fs::remove_dir_all(&folder);
            panic!("the extensions for {} do not build: {said}", interpreter.version);
        }
    }
    folder
}
