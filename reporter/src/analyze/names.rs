//! From locations to frames with names, and to what makes two frames the same.

use std::collections::HashMap;
use std::rc::Rc;

use crate::read::Loaded;
use crate::symbolize::Symbols;

use super::report::{Frame, Site, Source};
use super::roles::{self, Role};
use super::stacks::{Location, LocationId, Stacks};

/// Position of a frame in [`Names`].
pub type FrameId = u32;
/// The same for two frames with the same function, file and line.
pub type Identity = u32;

/// Named frames.
#[derive(Default)]
pub struct Names {
    frames: Vec<Named>,
    of: HashMap<LocationId, Vec<FrameId>>,
    identities: HashMap<String, Identity>,
}

struct Named {
    frame: Frame,
    identity: Identity,
    hash: u64,
    dump: usize,
    /// With its source line, once it is to be shown.
    shown: Option<Rc<Frame>>,
}

impl Names {
    /// The frames of a location, innermost first: several where functions were inlined.
    pub fn of(&mut self, stacks: &Stacks, symbols: &mut Symbols, id: LocationId) -> &[FrameId] {
        let Names { frames, of, identities } = self;
        of.entry(id).or_insert_with(|| {
            let dump = stacks.dump_of(id);
            let named = stacks.location(id).map_or(Vec::new(), |it| name(it, symbols));
            let first = frames.len() as FrameId;
            frames.extend(named.into_iter().map(|frame| {
                let key = key(&frame);
                let hash = fnv(FNV, key.as_bytes());
                let next = identities.len() as Identity;
                let identity = *identities.entry(key).or_insert(next);
                Named { frame, identity, hash, dump, shown: None }
            }));
            (first..frames.len() as FrameId).collect()
        })
    }

    /// All frames of a stack.
    pub fn stack(
        &mut self,
        stacks: &Stacks,
        symbols: &mut Symbols,
        locations: &[LocationId],
    ) -> Vec<FrameId> {
        let mut out = Vec::with_capacity(locations.len());
        for &location in locations {
            out.extend_from_slice(self.of(stacks, symbols, location));
        }
        out
    }

    /// What makes a frame the same as another.
    pub fn identity(&self, id: FrameId) -> Identity {
        self.frames.get(id as usize).map_or(Identity::MAX, |named| named.identity)
    }

    /// A frame, without its source line.
    pub fn frame(&self, id: FrameId) -> Option<&Frame> {
        self.frames.get(id as usize).map(|named| &named.frame)
    }

    /// Whether a frame is the program's own native code.
    pub fn is_program(&self, id: FrameId) -> bool {
        matches!(self.frame(id), Some(Frame::Native { role: Role::Program, .. }))
    }

    /// The name of a stack: the same in every run, on every machine with the same symbols.
    pub fn site_id(&self, source: Source, stack: &[FrameId]) -> String {
        let start = fnv(FNV, source.name().as_bytes());
        let hash = stack.iter().fold(start, |hash, &id| {
            let frame = self.frames.get(id as usize).map_or(0, |named| named.hash);
            fnv(hash, &frame.to_le_bytes())
        });
        format!("{hash:016x}")
    }

    /// A stack as it is shown, on request with the source lines of its Python frames. `whole` is what
    /// its blocks are, its locations, and whether outer ones are missing.
    pub fn site(
        &mut self,
        dumps: &[Loaded],
        stacks: &Stacks,
        symbols: &mut Symbols,
        whole: (Source, &[LocationId], bool),
        with_source: bool,
    ) -> Site {
        let (source, locations, truncated) = whole;
        let frames = self.stack(stacks, symbols, locations);
        let mut text = |dump: usize, file: &str, line| {
            // (What was written later may have other lines.)
            let dump = &dumps.get(dump)?.dump;
            let as_of = dump.started_unix_ns;
            symbols.source_as_of(&dump.process.directory, file, line, as_of)
        };
        let mut show = |frame| match with_source {
            true => self.show(frame, &mut text),
            false => self.show(frame, |_, _, _| None),
        };
        let stack = frames.iter().filter_map(|&frame| show(frame)).collect();
        Site { id: self.site_id(source, &frames), truncated, stack }
    }

    /// A frame for the report; `source_of` finds the text of a line.
    pub fn show(
        &mut self,
        id: FrameId,
        source_of: impl FnOnce(usize, &str, u32) -> Option<String>,
    ) -> Option<Rc<Frame>> {
        let named = self.frames.get_mut(id as usize)?;
        let (frame, dump) = (&named.frame, named.dump);
        let shown = named.shown.get_or_insert_with(|| {
            let mut frame = frame.clone();
            if let Frame::Python { file, line: Some(line), source, .. } = &mut frame {
                *source = source_of(dump, file, *line);
            }
            Rc::new(frame)
        });
        Some(Rc::clone(shown))
    }
}

fn name(location: &Location, symbols: &mut Symbols) -> Vec<Frame> {
    match location {
        Location::Python(frame) => vec![Frame::Python {
            file: frame.file.clone(),
            line: frame.line,
            column: frame.column,
            function: frame.function.clone(),
            source: None,
        }],
        Location::Nowhere { pc } => vec![Frame::Native {
            module: String::new(),
            function: None,
            file: None,
            line: None,
            offset: *pc,
            inlined: false,
            role: Role::Program,
        }],
        Location::Native { module, role, offset } => {
            let path = symbols.path(*module).to_owned();
            let frame = |line: &crate::symbolize::NativeLine| Frame::Native {
                module: path.clone(),
                role: roles::of_function(*role, line.function.as_deref()),
                function: line.function.clone(),
                file: line.file.clone(),
                line: line.line,
                offset: *offset,
                inlined: line.inlined,
            };
            match symbols.functions(*module, *offset) {
                [] => vec![frame(&crate::symbolize::NativeLine::default())],
                lines => lines.iter().map(frame).collect(),
            }
        }
    }
}

/// A frame as text, without what differs between builds of the same source where names are known.
/// Zero bytes part the fields: no name holds one.
fn key(frame: &Frame) -> String {
    match frame {
        Frame::Python { file, line, function, .. } => {
            format!("P\0{file}\0{function}\0{}", line.unwrap_or(0))
        }
        Frame::Native { module, function, file, line, offset, .. } => {
            let module = roles::file_name(module);
            match function {
                Some(function) => {
                    let file = file.as_deref().unwrap_or("");
                    format!("N\0{module}\0{function}\0{file}\0{}", line.unwrap_or(0))
                }
                None => format!("O\0{module}\0{offset:x}"),
            }
        }
    }
}

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, which will be the same in every version of the reporter.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn python(line: u32, column: u32) -> Frame {
        Frame::Python {
            file: "app.py".into(),
            line: Some(line),
            column: Some(column),
            function: "load".into(),
            source: None,
        }
    }

    fn native(module: &str, function: Option<&str>, offset: u64) -> Frame {
        Frame::Native {
            module: module.into(),
            function: function.map(str::to_owned),
            file: None,
            line: None,
            offset,
            inlined: false,
            role: Role::Program,
        }
    }

    #[test]
    fn a_frame_is_its_function_file_and_line() {
        assert_eq!(key(&python(3, 1)), key(&python(3, 9)));
        assert_ne!(key(&python(3, 1)), key(&python(4, 1)));
        let named = |path, at| key(&native(path, Some("f"), at));
        assert_eq!(named("/a/lib.so", 1), named("/b/lib.so", 2));
        let nameless = |at| key(&native("/a/lib.so", None, at));
        assert_ne!(nameless(1), nameless(2));
    }

    #[test]
    fn the_hash_never_changes() {
        assert_eq!(fnv(FNV, b"foobar"), 0x8594_4171_f739_67e8);
        let names = Names::default();
        assert_eq!(names.site_id(Source::Native, &[]), "4b701c187218deca");
    }
}
