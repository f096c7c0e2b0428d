//! `reporter why`: who keeps something alive.

use clap::{Args, ValueEnum};

use crate::analyze::why;
use crate::read;
use crate::symbolize::Symbols;
use crate::view::{Paint, why as view};

use super::{Streams, WRONG, complain, print};

/// Show why objects are alive: the shortest path from a root, and what would go with them
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    reporter why pyshim.4242.dump Session          # a type, by the end of its name\n  \
    reporter why pyshim.4242.dump app.py:31        # what a line allocated\n  \
    reporter why pyshim.4242.dump 0x7f12a4c03e50   # one object")]
pub struct Arguments {
    /// The dump, or the id of a process that runs
    #[arg(value_name = "DUMP|PID")]
    dump: String,
    /// A type's name or the end of it, a site's id or file:line, or an address
    #[arg(value_name = "TYPE|SITE|ADDRESS")]
    target: String,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "text")]
    format: Form,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
}

/// The verb.
pub fn why(arguments: &Arguments, streams: &mut Streams) -> u8 {
    let (dumps, problems) = read::load_all(std::slice::from_ref(&arguments.dump));
    problems.iter().for_each(|problem| complain(problem, streams));
    let Some(loaded) = dumps.first() else { return WRONG };
    let mut symbols = Symbols::new(loaded.root.clone().into_iter().collect());
    match why::why(loaded, &mut symbols, &arguments.target) {
        Ok(found) => {
            let text = match arguments.format {
                Form::Text => {
                    let paint = Paint(streams.colour_out);
                    view::text(&found, &loaded.dump.process.directory, paint)
                }
                Form::Json => view::json(&found),
            };
            print(&text, streams)
        }
        Err(problem) => {
            complain(&problem, streams);
            WRONG
        }
    }
}
