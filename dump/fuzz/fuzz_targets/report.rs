//! Makes every kind of report of any dump that can be read: no panic, whatever its
//! numbers refer to. Started by `scripts/fuzz`, or alone by
//! `scripts/fuzz --report`.

#![no_main]

mod dice;
mod heap;
mod shape;

use std::hint::black_box;
use std::path::PathBuf;

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pyshim_dump::Dump;
use pyshim_reporter::analyze::report::{By, Moment};
use pyshim_reporter::analyze::{self, Options, why};
use pyshim_reporter::read::{Loaded, State};
use pyshim_reporter::symbolize::Symbols;
use pyshim_reporter::view::{self, Paint};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(dump) = Dump::parse(bytes) {
        report(dump);
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    shape::mutate(data, size, max_size, seed)
});

fn report(mut dump: Dump) {
    // Names in a dump are names of files, and those of this machine are not meant.
    let nowhere = |name: &str| format!("/nonexistent/{}", name.replace("..", ""));
    for module in &mut dump.modules {
        module.loaded.path = nowhere(&module.loaded.path);
    }
    dump.texts.iter_mut().flatten().for_each(|text| *text = nowhere(text));
    dump.process.directory = nowhere(&dump.process.directory);
    if let Some(heap) = &mut dump.heap {
        heap.strings.iter_mut().for_each(|text| *text = text.replace('/', "."));
    }

    let directory = dump.process.directory.clone();
    let path = PathBuf::from("/nonexistent/pyshim.1.dump");
    let one = Loaded { path, dump, state: State::Died, root: None, notes: Vec::new() };
    let mut symbols = Symbols::new(Vec::new());
    for target in ["dict", "Session", "1", "0x7f0000001000", "app.py:31"] {
        if let Ok(found) = why::why(&one, &mut symbols, target) {
            black_box((view::why::text(&found, &directory, Paint(true)), view::why::json(&found)));
        }
    }
    let dumps = [one];
    for (by, moment, since) in [
        (By::Site, Moment::Last, None),
        (By::Library, Moment::Peak, None),
        (By::Type, Moment::Last, Some("warm")),
        (By::Holder, Moment::Last, None),
    ] {
        let options = Options { top: 10, by, moment, survivors: Some(100), since };
        let report = analyze::summarize(&dumps, &mut symbols, &options, Vec::new());
        black_box(view::text::render(&report, Paint(false)));
        black_box((view::json::render(&report), view::markdown::render(&report)));
    }
}
