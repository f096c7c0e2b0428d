//! Which dumps a run produced: what fits its template and was not there before.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::problem::Problem;

/// Tells a file from a later one of the same name.
type Identity = (u64, u64);

/// Where dumps go.
#[derive(Debug)]
pub struct Template {
    path: PathBuf,
    folder: PathBuf,
    /// The folder as the user named it.
    shown: PathBuf,
    name: OsString,
}

impl Template {
    /// Of a path in which `%p` and `%e` stand for the process.
    pub fn new(text: OsString) -> Result<Template, Problem> {
        let given = PathBuf::from(text);
        let complaint = |what: &str| Problem::new(given.display(), what);
        let Some(name) =
            given.file_name().filter(|_| !given.as_os_str().as_bytes().ends_with(b"/"))
        else {
            return Err(complaint("names no file; end it with a name such as pyshim.%p.dump"));
        };
        let shown = given.parent().unwrap_or(Path::new("")).to_owned();
        if shown.as_os_str().as_bytes().contains(&b'%') {
            return Err(complaint(
                "%p and %e may only stand in the name of the file, not of its folder",
            ));
        }
        // The program may change its directory before a child of its starts.
        let path = std::path::absolute(&given).map_err(|error| complaint(&error.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        if !folder.is_dir() {
            return Err(complaint("its folder does not exist; make it first"));
        }
        // (Where a relative one begins may have a name with any signs.)
        let path = literal(&folder).join(name);
        Ok(Template { name: name.to_owned(), path, folder, shown })
    }

    /// As the shim is given it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that fit.
    pub fn matching(&self) -> BTreeMap<PathBuf, Identity> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter(|entry| fits(self.name.as_bytes(), entry.file_name().as_bytes()))
            .filter_map(|entry| {
                let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
                Some((self.shown.join(entry.file_name()), (meta.dev(), meta.ino())))
            })
            .collect()
    }
}

/// A path in a template: `%%` stands for a `%`.
fn literal(folder: &Path) -> PathBuf {
    let bytes = folder.as_os_str().as_bytes().iter();
    let doubled = bytes.flat_map(|&byte| [byte; 2].into_iter().take(1 + usize::from(byte == b'%')));
    OsString::from_vec(doubled.collect()).into()
}

/// Whether a file name can come from a template: `%p` is a number, `%e` anything; behind it all there may
/// be another number, where the name was taken.
fn fits(template: &[u8], name: &[u8]) -> bool {
    match template {
        [] => name.is_empty() || is_further(name),
        [b'%', b'p', rest @ ..] => {
            let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (1..=digits).any(|end| name.get(end..).is_some_and(|tail| fits(rest, tail)))
        }
        [b'%', b'e', rest @ ..] => {
            (0..=name.len()).any(|end| name.get(end..).is_some_and(|tail| fits(rest, tail)))
        }
        [b'%', b'%', rest @ ..] => name.strip_prefix(b"%").is_some_and(|tail| fits(rest, tail)),
        [byte, rest @ ..] => {
            name.split_first().is_some_and(|(first, tail)| first == byte && fits(rest, tail))
        }
    }
}

/// Whether it is what the shim appends where a name was taken: `.1` to `.999`.
fn is_further(ending: &[u8]) -> bool {
    match ending {
        [b'.', b'1'..=b'9', rest @ ..] => rest.len() < 3 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_their_template() {
        let fits = |template: &str, name: &str| fits(template.as_bytes(), name.as_bytes());
        assert!(fits("pyshim.%p.dump", "pyshim.4242.dump"));
        assert!(!fits("pyshim.%p.dump", "pyshim.x.dump"));
        assert!(!fits("pyshim.%p.dump", "pyshim..dump"));
        assert!(!fits("pyshim.%p.dump", "pyshim.4242.dump.old"));
        assert!(fits("%e-%p", "python3.11-17"));
        assert!(fits("100%%.%p", "100%.3"));
        assert!(fits("plain", "plain"));
    }

    #[test]
    fn a_taken_name_has_a_number_behind_it() {
        let fits = |template: &str, name: &str| fits(template.as_bytes(), name.as_bytes());
        for name in ["out.dump.1", "out.dump.42", "out.dump.999"] {
            assert!(fits("out.dump", name), "{name}");
        }
        for name in ["out.dump.", "out.dump.0", "out.dump.1000", "out.dump.1x", "out.dump1"] {
            assert!(!fits("out.dump", name), "{name}");
        }
        assert!(fits("pyshim.%p.dump", "pyshim.4242.dump.1"));
        assert!(fits("%e-%p", "python3.11-17.3"));
    }

    #[test]
    fn a_template_needs_a_folder_and_a_name() {
        let wrong = |text: &str| Template::new(text.into()).unwrap_err().what;
        assert!(wrong("/nowhere/at/all/%p.dump").starts_with("its folder does not exist"));
        assert!(wrong("/tmp/").starts_with("names no file"));
        assert!(wrong("/tmp/%p/x.dump").starts_with("%p and %e may only stand"));
        let plain = Template::new("pyshim.%p.dump".into()).unwrap();
        assert!(plain.path().is_absolute());
    }
}
