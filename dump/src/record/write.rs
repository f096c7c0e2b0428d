//! From records to the bytes of a batch.

use super::{
    CODE, Context, Frame, MARK, MODULE, NOTE, Origin, PATH, PROCESS, Record, SITE, TEXT, TRUNCATED,
    UNLOAD, difference,
};
use crate::varint::{put, put_bytes};

/// Appends `record` to a batch. Each begins with an empty context.
pub fn write(out: &mut Vec<u8>, context: &mut Context, record: &Record) {
    let start = begin(out);
    let kind = match record {
        Record::Process(process) => {
            put_bytes(out, process.executable.as_bytes());
            put_texts(out, &process.argv);
            put_bytes(out, process.directory.as_bytes());
            put_bytes(out, process.python.as_bytes());
            put_texts(out, &process.settings);
            PROCESS
        }
        Record::Text { id, text } => {
            put(out, u64::from(*id));
            put_bytes(out, text.as_bytes());
            TEXT
        }
        Record::Code(code) => {
            put(out, u64::from(code.id));
            put(out, u64::from(code.file));
            put_bytes(out, code.name.as_bytes());
            put(out, u64::from(code.first_line));
            out.push(code.table_kind);
            put_bytes(out, &code.table);
            CODE
        }
        Record::Module(module) => {
            put(out, u64::from(module.id));
            put_bytes(out, module.path.as_bytes());
            put_bytes(out, &module.build_id);
            put(out, module.bias);
            put(out, module.start);
            put(out, module.end.wrapping_sub(module.start));
            put(out, module.loaded_ns);
            MODULE
        }
        Record::Unload { id, at_ns } => {
            put(out, u64::from(*id));
            put(out, *at_ns);
            UNLOAD
        }
        &Record::Site { id, origin, truncated, path, ref frames } => {
            let same = context.last.iter().rev().zip(frames.iter().rev());
            let shared = same.take_while(|(one, other)| one == other).count();
            let others = frames[..frames.len() - shared].iter().copied();
            let site = SiteHead { id, origin, truncated, path };
            put_site(out, &site, Before { id: context.last_id, frames: shared }, others);
            context.last.clone_from(frames);
            context.last_id = id;
            SITE
        }
        Record::Note { text } => {
            put_bytes(out, text.as_bytes());
            NOTE
        }
        Record::Mark { at_ns, label } => {
            put(out, *at_ns);
            put_bytes(out, label.as_bytes());
            MARK
        }
        Record::Path { id, truncated, pcs } => {
            put(out, u64::from(*id));
            out.push(u8::from(*truncated));
            put(out, pcs.len() as u64);
            let mut last = 0;
            for &pc in pcs {
                put(out, difference(last, pc));
                last = pc;
            }
            PATH
        }
    };
    end(out, start, kind);
}

/// A site, but for its frames.
#[derive(Clone, Copy, Debug)]
pub struct SiteHead {
    /// As in [`Record::Site`].
    pub id: u32,
    /// As in [`Record::Site`].
    pub origin: Origin,
    /// As in [`Record::Site`].
    pub truncated: bool,
    /// As in [`Record::Site`].
    pub path: u32,
}

/// What a site has of the one that comes before it in the batch.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    /// The id of that; 0: there is none.
    pub id: u32,
    /// So many outer frames are the same.
    pub frames: usize,
}

/// Appends a site, whose writer knows what it has in common with the one before it in the batch; `frames`
/// are its other frames, innermost first. What `write` remembers is not told.
pub fn write_site(
    out: &mut Vec<u8>,
    site: &SiteHead,
    before: Before,
    frames: impl ExactSizeIterator<Item = Frame>,
) {
    let start = begin(out);
    put_site(out, site, before, frames);
    end(out, start, SITE);
}

fn put_site(
    out: &mut Vec<u8>,
    site: &SiteHead,
    before: Before,
    frames: impl ExactSizeIterator<Item = Frame>,
) {
    put(out, difference(u64::from(before.id), u64::from(site.id)));
    out.push(site.origin as u8 | if site.truncated { TRUNCATED } else { 0 });
    put(out, u64::from(site.path));
    put(out, before.frames as u64);
    put_frames(out, frames);
}

/// Kind and length of the content, as most have it.
const HEAD: usize = 2;

fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    start
}

fn end(out: &mut Vec<u8>, start: usize, kind: u8) {
    let len = out.len() - start - HEAD;
    if let Some([place_of_kind, place_of_len]) = out.get_mut(start..start + HEAD) {
        (*place_of_kind, *place_of_len) = (kind, len as u8);
    }
    if len >= 0x80 {
        let mut longer = Vec::with_capacity(10);
        put(&mut longer, len as u64);
        out.splice(start + 1..start + HEAD, longer);
    }
}

fn put_texts(out: &mut Vec<u8>, texts: &[String]) {
    put(out, texts.len() as u64);
    for text in texts {
        put_bytes(out, text.as_bytes());
    }
}

/// Frames share most of their address with the one before, and code ids are
/// small: the low bit tells native from Python, the rest is the delta or the id.
fn put_frames(out: &mut Vec<u8>, frames: impl ExactSizeIterator<Item = Frame>) {
    put(out, frames.len() as u64);
    let mut last = 0u64;
    for frame in frames {
        match frame {
            Frame::Native { pc } => {
                // Addresses have 48 bits, so the shift loses nothing.
                put(out, difference(last, pc) << 1);
                last = pc;
            }
            Frame::Python { code, instruction, entry } => {
                put(out, u64::from(code) << 2 | u64::from(entry) << 1 | 1);
                put(out, u64::from(instruction));
            }
        }
    }
}
