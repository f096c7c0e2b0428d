//! Where the shim is, and what it is told.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::problem::Problem;

const NAME: &str = "libpyshim.so";

/// The value of `LD_PRELOAD`: the shim before what is there already.
pub fn preload() -> Result<OsString, Problem> {
    let shim = find()?;
    // The loader takes both for separators, and knows no way to quote them.
    if shim.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':')) {
        let what = "the loader cannot preload a path with a space or a colon; move the library, and set PYSHIM_LIB to it";
        return Err(Problem::new(shim.display(), what));
    }
    let mut preload = shim.into_os_string();
    if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
        preload.push(":");
        preload.push(others);
    }
    Ok(preload)
}

/// Named by `PYSHIM_LIB`, beside the reporter, or where an installation puts it.
fn find() -> Result<PathBuf, Problem> {
    if let Some(named) = std::env::var_os("PYSHIM_LIB").filter(|named| !named.is_empty()) {
        let path = PathBuf::from(named);
        return match std::path::absolute(&path) {
            Ok(path) if path.is_file() => Ok(path),
            _ => Err(Problem::new(
                path.display(),
                "there is no library here; PYSHIM_LIB must name libpyshim.so",
            )),
        };
    }
    let own = std::env::current_exe().unwrap_or_default();
    // Through a link to the reporter, too.
    let own = own.canonicalize().unwrap_or(own);
    let folder = own.parent().unwrap_or(Path::new("/"));
    places(folder).into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let what = format!(
            "not found in {0}, {0}/../lib or {0}/../lib/pyshim; set PYSHIM_LIB to its path",
            folder.display()
        );
        Problem::new(NAME, what)
    })
}

fn places(folder: &Path) -> [PathBuf; 3] {
    let beside = folder.parent().unwrap_or(Path::new("/")).join("lib");
    [folder.join(NAME), beside.join(NAME), beside.join("pyshim").join(NAME)]
}

/// Checks a size before the program starts: the shim would only complain, and record everything.
pub fn sample(text: &str) -> Result<String, String> {
    let wrong = || "exact, or a size such as 512KiB or 2MiB".to_owned();
    if text == "exact" {
        return Ok(text.to_owned());
    }
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or("");
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if (1..1 << 40).contains(&bytes) => Ok(bytes.to_string()),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_become_bytes() {
        assert_eq!(sample("512KiB").as_deref(), Ok("524288"));
        assert_eq!(sample("2m").as_deref(), Ok("2097152"));
        assert_eq!(sample("exact").as_deref(), Ok("exact"));
        for wrong in ["", "0", "-1", "1 KiB", "many", "9999999999G", "99999999999999999999"] {
            assert!(sample(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn three_places() {
        let found = places(Path::new("/opt/pyshim/bin"));
        assert_eq!(found[0], Path::new("/opt/pyshim/bin/libpyshim.so"));
        assert_eq!(found[2], Path::new("/opt/pyshim/lib/pyshim/libpyshim.so"));
    }
}
