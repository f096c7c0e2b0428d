//! What is leaked for good, by the heap snapshot.

use crate::read::Run;
use crate::symbolize::Symbols;

use super::result::Place;

/// Bytes of one cause that nothing will ever free.
#[derive(Clone, Debug)]
pub struct Leak {
    /// The kind of cause: `native-leak`, `reference-leak`, `cycles`.
    pub kind: String,
    /// Its bytes.
    pub bytes: u64,
    /// Where they were allocated.
    pub place: Place,
}

/// The leaks of a run; `None` where its dumps hold no heap snapshot, which alone can tell.
///
/// The one place to change once dumps hold snapshots. Those of format 1.0 hold none.
pub fn leaks(_run: &Run, _symbols: &mut Symbols) -> Option<Vec<Leak>> {
    None
}
