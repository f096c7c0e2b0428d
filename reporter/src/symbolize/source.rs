//! Lines of source files, where these can be read.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Larger files are no source that somebody wrote.
const LARGEST: u64 = 16 << 20;

/// Source files, each read once.
#[derive(Default)]
pub struct Sources {
    files: HashMap<PathBuf, Option<Source>>,
}

struct Source {
    lines: Vec<String>,
    /// When it was last written, nanoseconds of Unix time.
    modified_unix_ns: u64,
}

impl Sources {
    /// Line `line` of `file`, without the space around it; nothing if the file was written after the moment
    /// `unix_ns`: its lines may be others. A relative path starts at `directory`; `roots` are tried in turn.
    pub fn line_as_of(
        &mut self,
        roots: &[PathBuf],
        directory: &str,
        file: &str,
        line: u32,
        unix_ns: u64,
    ) -> Option<String> {
        // `<string>`, `<frozen importlib._bootstrap>`: no files.
        if file.is_empty() || file.starts_with('<') {
            return None;
        }
        let path = Path::new(directory).join(file);
        if !path.is_absolute() {
            return None;
        }
        let source = self.files.entry(path).or_insert_with_key(|path| read(roots, path));
        let source = source.as_ref().filter(|source| source.modified_unix_ns <= unix_ns)?;
        let text = source.lines.get((line as usize).checked_sub(1)?)?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

fn read(roots: &[PathBuf], path: &Path) -> Option<Source> {
    let inside = path.strip_prefix("/").ok()?;
    let path = roots.iter().map(|root| root.join(inside)).find(|path| path.is_file())?;
    let meta = fs::metadata(&path).ok()?;
    if meta.len() > LARGEST {
        return None;
    }
    let since = meta.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let bytes = fs::read(path).ok()?;
    Some(Source {
        lines: String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect(),
        modified_unix_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_from_the_directory_of_the_process() {
        let roots = [PathBuf::from("/")];
        let mut sources = Sources::default();
        let here = env!("CARGO_MANIFEST_DIR");
        let mut line_of =
            |here: &str, file: &str, line| sources.line_as_of(&roots, here, file, line, u64::MAX);
        let line = line_of(here, "src/symbolize/source.rs", 1);
        assert_eq!(line.as_deref(), Some("//! Lines of source files, where these can be read."));
        assert_eq!(line_of(here, "src/symbolize/source.rs", 0), None);
        assert_eq!(line_of(here, "src/symbolize/source.rs", 1 << 30), None);
        assert_eq!(line_of(here, "<string>", 1), None);
        assert_eq!(line_of("", "src/symbolize/source.rs", 1), None);
        let as_of = |sources: &mut Sources, ns| {
            sources.line_as_of(&roots, here, "src/symbolize/source.rs", 1, ns)
        };
        assert_eq!(as_of(&mut sources, 1), None, "it was written since");
        assert!(as_of(&mut sources, u64::MAX - 1).is_some());
    }
}
