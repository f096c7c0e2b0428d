//! What is missing from a report, and how far its figures can be trusted.

use pyshim_dump::layout::Lost;
use pyshim_dump::record::Frame;
use pyshim_dump::{Dump, Mode};

use super::report::Completeness;
use super::{estimates, process};

/// Reasons for a loss, with their words in reports.
const REASONS: [(Lost, &str); 8] = [
    (Lost::Blocks, "blocks"),
    (Lost::Sites, "sites"),
    (Lost::Definitions, "definitions"),
    (Lost::Reentered, "reentered"),
    (Lost::Growth, "growth"),
    (Lost::Code, "code"),
    (Lost::Mappings, "mappings"),
    (Lost::Foreign, "foreign"),
];

/// What a dump that is marked as inexact has to say.
pub const INEXACT: &str =
    "figures are not exact, some blocks came or went while they could not be counted";

/// Of all dumps together; `others` are notes from elsewhere.
pub fn completeness<'a>(
    dumps: impl Iterator<Item = &'a Dump> + Clone,
    others: impl IntoIterator<Item = String>,
) -> Completeness {
    let mut lost = Vec::new();
    let mut losses = false;
    for (reason, word) in REASONS {
        let count = dumps.clone().fold(0u64, |sum, dump| sum.saturating_add(dump.lost(reason)));
        if count > 0 {
            lost.push((word, count));
            // Blocks from before the hooks that were freed since: nothing survives of them.
            losses |= !matches!(reason, Lost::Foreign);
        }
    }
    let exact = !losses && dumps.clone().all(|dump| dump.mode == Mode::Exact && !dump.inexact);
    let mut notes: Vec<String> = Vec::new();
    let texts = dumps.clone().flat_map(|dump| dump.notes.iter().cloned());
    for text in texts.chain(others) {
        if !notes.contains(&text) {
            notes.push(text);
        }
    }
    Completeness {
        exact,
        lost,
        python_frames: dumps.clone().any(has_python_frames),
        python_allocators: dumps.clone().all(has_python_blocks),
        native_frames: native_frames(dumps.clone()),
        unseen: dumps.clone().filter_map(process::sampled).max().map(estimates::unseen),
        notes,
    }
}

/// Whether blocks of Python's own allocators were recorded.
pub fn has_python_blocks(dump: &Dump) -> bool {
    setting(dump, "python") != Some("0")
}

fn has_python_frames(dump: &Dump) -> bool {
    let is_python = |frame: Frame| matches!(frame, Frame::Python { .. });
    dump.sites
        .iter()
        .filter_map(|site| site.stack.as_ref())
        .any(|it| dump.frames(it).any(is_python))
}

/// The least of what the processes recorded.
fn native_frames<'a>(dumps: impl Iterator<Item = &'a Dump>) -> String {
    const ORDER: [&str; 3] = ["off", "leaf", "full"];
    let rank = |word: &str| ORDER.iter().position(|it| *it == word).unwrap_or(0);
    let words = dumps.map(|dump| setting(dump, "native").unwrap_or("off"));
    words.min_by_key(|word| rank(word)).unwrap_or("off").to_owned()
}

/// The value of a setting.
fn setting<'a>(dump: &'a Dump, name: &str) -> Option<&'a str> {
    let settings = dump.process.settings.iter();
    settings.filter_map(|it| it.split_once('=')).find(|it| it.0 == name).map(|it| it.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::leaky;

    fn of(dumps: &[Dump]) -> Completeness {
        completeness(dumps.iter(), [])
    }

    #[test]
    fn nothing_lost_is_exact() {
        let found = of(&[leaky().dump()]);
        assert!(found.exact && found.python_frames && found.python_allocators);
        assert_eq!(found.native_frames, "leaf");
        assert_eq!(found.lost, []);
    }

    #[test]
    fn what_is_lost_is_said() {
        let mut maker = leaky();
        maker.lost(Lost::Foreign, 13_000).note("no frames");
        assert!(of(&[maker.dump()]).exact, "frees of early blocks lose no survivor");
        maker.lost(Lost::Blocks, 2);
        let both = of(&[maker.dump(), maker.dump()]);
        assert!(!both.exact);
        assert_eq!(both.lost, [("blocks", 4), ("foreign", 26_000)]);
        assert_eq!(both.notes, ["no frames"]);
    }
}
