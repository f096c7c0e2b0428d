//! Settings: environment variables, read once.

use core::ffi::CStr;

use crate::log;
use crate::native::Extent;

/// Which programs leave a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// Those that run Python, children included.
    Python,
    /// All that the library is loaded into.
    All,
    /// This one; its children run without the shim.
    None,
}

/// When heap snapshots are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshots {
    /// Before the interpreter's teardown, and when somebody asks.
    pub last: bool,
    /// Even of a program that was short and small.
    pub always: bool,
    /// Each time that this many nanoseconds have passed; 0: never.
    pub every_ns: u64,
    /// When memory has come to this many hundredths of its limit; 0: never.
    pub at_percent: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `PYSHIM_OUT`: where the dump goes; `%p` is the process id, `%e` the program's name.
    pub out: Vec<u8>,
    /// `PYSHIM_SAMPLE`: mean bytes between samples; 0: every block.
    pub sample: u64,
    /// `PYSHIM_NATIVE`: how much of the native stack is recorded.
    pub native: Extent,
    /// `PYSHIM_PYTHON`: whether Python's own allocators are hooked.
    pub python: bool,
    /// `PYSHIM_FOLLOW`.
    pub follow: Follow,
    /// `PYSHIM_SNAPSHOT`: when heap snapshots are taken.
    pub snapshots: Snapshots,
    /// `PYSHIM_LOG`: where messages go; `None`: nowhere.
    pub log: Option<Vec<u8>>,
    /// `PYSHIM_SEED`: seed of the sampling, to repeat a run.
    pub seed: Option<u64>,
}

impl Settings {
    /// The defaults.
    pub const fn new() -> Settings {
        Settings {
            out: Vec::new(),
            sample: 0,
            native: Extent::Leaf,
            python: true,
            follow: Follow::Python,
            snapshots: Snapshots { last: true, always: false, every_ns: 0, at_percent: 0 },
            log: None,
            seed: None,
        }
    }

    /// Reads the environment. `complain` hears of every wrong value; the default then holds.
    pub fn read(complain: impl Fn(&str, &str, &str)) -> Settings {
        let mut settings = Settings { out: b"pyshim.%p.dump".to_vec(), ..Settings::new() };
        let text = |name: &CStr| variable(name).map(|v| String::from_utf8_lossy(&v).into_owned());
        if let Some(out) = variable(c"PYSHIM_OUT").filter(|out| !out.is_empty()) {
            settings.out = out;
        }
        if let Some(value) = text(c"PYSHIM_SAMPLE") {
            match parse_sample(&value) {
                Some(mean) => settings.sample = mean,
                None => complain("PYSHIM_SAMPLE", &value, "exact, or a size such as 512KiB"),
            }
        }
        if let Some(value) = text(c"PYSHIM_NATIVE") {
            match value.as_str() {
                "off" => settings.native = Extent::Off,
                "leaf" => settings.native = Extent::Leaf,
                "full" => settings.native = Extent::Full,
                _ => complain("PYSHIM_NATIVE", &value, "leaf, full or off"),
            }
        }
        if let Some(value) = text(c"PYSHIM_PYTHON") {
            match value.as_str() {
                "0" => settings.python = false,
                "1" => settings.python = true,
                _ => complain("PYSHIM_PYTHON", &value, "1 or 0"),
            }
        }
        if let Some(value) = text(c"PYSHIM_FOLLOW") {
            match value.as_str() {
                "python" => settings.follow = Follow::Python,
                "all" => settings.follow = Follow::All,
                "none" => settings.follow = Follow::None,
                _ => complain("PYSHIM_FOLLOW", &value, "python, all or none"),
            }
        }
        if let Some(value) = text(c"PYSHIM_SNAPSHOT") {
            match parse_snapshots(&value) {
                Some(snapshots) => settings.snapshots = snapshots,
                None => complain("PYSHIM_SNAPSHOT", &value, "exit, every=60s, at=80%, or off"),
            }
        }
        if let Some(value) = text(c"PYSHIM_SEED") {
            match value.parse() {
                Ok(seed) => settings.seed = Some(seed),
                Err(_) => complain("PYSHIM_SEED", &value, "a number"),
            }
        }
        settings.log = variable(c"PYSHIM_LOG").filter(|log| !log.is_empty());
        settings
    }

    /// Makes paths absolute that begin in `folder`: the program may go elsewhere before they are used.
    pub fn begin_in(&mut self, folder: &[u8]) {
        if self.out.first() != Some(&b'/') {
            // A template keeps its meaning whatever the folder is called.
            let mut out = Vec::with_capacity(folder.len() + self.out.len() + 8);
            for &byte in folder {
                out.extend_from_slice(if byte == b'%' {
                    b"%%"
                } else {
                    core::slice::from_ref(&byte)
                });
            }
            out.push(b'/');
            out.append(&mut self.out);
            self.out = out;
        }
        if let Some(log) =
            self.log.as_mut().filter(|log| !log::is_word(log) && !log.starts_with(b"/"))
        {
            let path = [folder, b"/", log].concat();
            *log = path;
        }
    }

    /// The settings as they go into the dump.
    pub fn describe(&self) -> Vec<String> {
        let native = match self.native {
            Extent::Off => "off",
            Extent::Leaf => "leaf",
            Extent::Full => "full",
        };
        let sample = match self.sample {
            0 => "exact".to_owned(),
            mean => mean.to_string(),
        };
        vec![
            format!("sample={sample}"),
            format!("native={native}"),
            format!("python={}", u8::from(self.python)),
        ]
    }
}

/// A variable's value.
fn variable(name: &CStr) -> Option<Vec<u8>> {
    // SAFETY: a string that ends in zero; runs in the constructor, before the program can change
    // its environment.
    let value = unsafe { libc::getenv(name.as_ptr()) };
    if value.is_null() {
        return None;
    }
    // SAFETY: the environment's strings end in zero.
    Some(unsafe { CStr::from_ptr(value) }.to_bytes().to_vec())
}

/// `exact`, or a number of bytes with an optional unit.
fn parse_sample(text: &str) -> Option<u64> {
    if text == "exact" {
        return Some(0);
    }
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KB" | "KiB" | "k" => 10,
        "M" | "MB" | "MiB" => 20,
        "G" | "GB" | "GiB" => 30,
        _ => return None,
    };
    let number: u64 = digits.parse().ok()?;
    let bytes = number.checked_mul(1 << shift)?;
    (1..1 << 40).contains(&bytes).then_some(bytes)
}

/// A list of `exit`, `every=` a time, `at=` a percentage; or `off`.
fn parse_snapshots(text: &str) -> Option<Snapshots> {
    let mut snapshots = Snapshots { last: false, always: false, every_ns: 0, at_percent: 0 };
    if text == "off" {
        return Some(snapshots);
    }
    for word in text.split(',') {
        if let Some(time) = word.strip_prefix("every=") {
            snapshots.every_ns = parse_time(time)?;
        } else if let Some(percent) = word.strip_prefix("at=") {
            let percent = percent.strip_suffix('%')?.parse().ok()?;
            snapshots.at_percent = (1..=100).contains(&percent).then_some(percent)?;
        } else if word == "exit" {
            snapshots.always = true;
        } else {
            return None;
        }
        // Whoever wants some in between wants the last one too.
        snapshots.last = true;
    }
    Some(snapshots)
}

/// A number of seconds, or with a unit: `500ms`, `60s`, `5m`, `1h`.
fn parse_time(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).filter(|&ns| ns >= 100_000_000)
}

/// Fills in a template: `%p` and `%e`, and `%%` for a per cent sign.
pub fn expand(template: &[u8], pid: u32, program: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(template.len() + 16);
    let mut rest = template.iter().copied();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        match rest.next() {
            Some(b'p') => out.extend_from_slice(pid.to_string().as_bytes()),
            Some(b'e') => out.extend_from_slice(program),
            Some(b'%') => out.push(b'%'),
            Some(other) => out.extend_from_slice(&[b'%', other]),
            None => out.push(b'%'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Settings, Snapshots, expand, parse_sample, parse_snapshots};

    #[test]
    fn snapshots_are_moments() {
        let all = Snapshots { last: true, always: false, every_ns: 60_000_000_000, at_percent: 80 };
        assert_eq!(parse_snapshots("every=60s,at=80%"), Some(all));
        let always = Snapshots { always: true, ..all };
        assert_eq!(parse_snapshots("exit,every=1m,at=80%"), Some(always));
        let none = Snapshots { last: false, always: false, every_ns: 0, at_percent: 0 };
        assert_eq!(parse_snapshots("off"), Some(none));
        for wrong in ["", "never", "every=", "every=1ms", "at=0%", "at=80", "exit,off", "every=5d"]
        {
            assert_eq!(parse_snapshots(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn samples_are_sizes() {
        assert_eq!(parse_sample("exact"), Some(0));
        assert_eq!(parse_sample("512KiB"), Some(512 << 10));
        assert_eq!(parse_sample("2M"), Some(2 << 20));
        assert_eq!(parse_sample("100"), Some(100));
        for wrong in ["", "0", "-1", "many", "1 KiB", "KiB", "9999999999G"] {
            assert_eq!(parse_sample(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn paths_begin_where_the_process_did() {
        let made = |out: &[u8], log: &[u8]| {
            let mut settings = Settings::new();
            (settings.out, settings.log) = (out.to_vec(), Some(log.to_vec()));
            settings.begin_in(b"/a%p/b");
            (expand(&settings.out, 42, b"python"), settings.log.unwrap())
        };
        assert_eq!(made(b"c/%p", b"d"), (b"/a%p/b/c/42".to_vec(), b"/a%p/b/d".to_vec()));
        assert_eq!(made(b"/c", b"/d"), (b"/c".to_vec(), b"/d".to_vec()));
        assert_eq!(made(b"/c", b"stderr").1, b"stderr");
    }

    #[test]
    fn templates_know_pid_and_program() {
        assert_eq!(expand(b"/x/%e.%p.%%.%q%", 42, b"python"), b"/x/python.42.%.%q%");
    }
}
