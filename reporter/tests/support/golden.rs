//! Golden files: `BLESS=1` writes them anew; one that is missing fails.

use std::fs;
use std::path::PathBuf;

/// Fails unless `found` is what the golden file of this name holds.
pub fn golden(name: &str, found: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("BLESS").is_some_and(|bless| bless == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}; BLESS=1 writes it", path.display()));
    assert_eq!(found, expected, "{name} changed; if that is right, BLESS=1 writes it anew");
}
