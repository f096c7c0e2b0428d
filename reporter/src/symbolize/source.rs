//! Lines of source files, where these can be read.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Larger files are no source that somebody wrote.
const LARGEST: u64 = 16 << 20;

/// Source files, each read once.
#[derive(Default)]
pub struct Sources {
    files: HashMap<PathBuf, Option<Vec<String>>>,
}

impl Sources {
    /// Line `line` of `file`, without the space around it. A relative path starts at `directory`;
    /// `roots` are tried in turn.
    pub fn line(
        &mut self,
        roots: &[PathBuf],
        directory: &str,
        file: &str,
        line: u32,
    ) -> Option<String> {
        // `<string>`, `<frozen importlib._bootstrap>`: no files.
        if file.is_empty() || file.starts_with('<') {
            return None;
        }
        let path = Path::new(directory).join(file);
        if !path.is_absolute() {
            return None;
        }
        let lines = self.files.entry(path).or_insert_with_key(|path| read(roots, path));
        let text = lines.as_ref()?.get((line as usize).checked_sub(1)?)?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

fn read(roots: &[PathBuf], path: &Path) -> Option<Vec<String>> {
    let inside = path.strip_prefix("/").ok()?;
    let path = roots.iter().map(|root| root.join(inside)).find(|path| path.is_file())?;
    if fs::metadata(&path).ok()?.len() > LARGEST {
        return None;
    }
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_from_the_directory_of_the_process() {
        let roots = [PathBuf::from("/")];
        let mut sources = Sources::default();
        let here = env!("CARGO_MANIFEST_DIR");
        let line = sources.line(&roots, here, "src/symbolize/source.rs", 1);
        assert_eq!(line.as_deref(), Some("//! Lines of source files, where these can be read."));
        assert_eq!(sources.line(&roots, here, "src/symbolize/source.rs", 0), None);
        assert_eq!(sources.line(&roots, here, "src/symbolize/source.rs", 1 << 30), None);
        assert_eq!(sources.line(&roots, here, "<string>", 1), None);
        assert_eq!(sources.line(&roots, "", "src/symbolize/source.rs", 1), None);
    }
}
