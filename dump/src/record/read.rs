//! From the bytes of a batch to records. Nothing is taken from there unchecked.

use super::{
    CODE, Code, Context, Frame, MARK, MODULE, MOST_FRAMES, Module, NOTE, Origin, PATH, PROCESS,
    Process, Record, SITE, TEXT, TRUNCATED, UNLOAD, apart,
};
use crate::varint::Input;

/// What [`read`] found at the front of a batch's records.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// A record; `None` for a kind that this version does not know.
    Record(Option<Record>),
    /// They end here.
    End,
    /// The bytes are no record.
    Bad,
}

/// Takes one record from the front of a batch's.
pub fn read(records: &mut &[u8], context: &mut Context) -> Step {
    let mut input = Input(records);
    let Some(kind) = input.byte() else { return Step::End };
    let Some(content) = input.bytes() else { return Step::Bad };
    *records = input.0;
    if !(PROCESS..=PATH).contains(&kind) {
        return Step::Record(None);
    }
    match decode(kind, content, context) {
        Some(record) => Step::Record(Some(record)),
        None => Step::Bad,
    }
}

/// Fields that a later minor version appended are left unread.
fn decode(kind: u8, content: &[u8], context: &mut Context) -> Option<Record> {
    let mut input = Input(content);
    let input = &mut input;
    Some(match kind {
        PROCESS => Record::Process(Process {
            executable: input.text()?,
            argv: texts(input)?,
            directory: input.text()?,
            python: input.text()?,
            settings: texts(input)?,
        }),
        TEXT => Record::Text { id: input.int32()?, text: input.text()? },
        CODE => Record::Code(Code {
            id: input.int32()?,
            file: input.int32()?,
            name: input.text()?,
            first_line: input.int32()?,
            table_kind: input.byte()?,
            table: input.bytes()?.to_vec(),
        }),
        MODULE => {
            let (id, path, build_id) = (input.int32()?, input.text()?, input.bytes()?.to_vec());
            let (bias, start) = (input.int()?, input.int()?);
            let end = start.wrapping_add(input.int()?);
            Record::Module(Module { id, path, build_id, bias, start, end, loaded_ns: input.int()? })
        }
        UNLOAD => Record::Unload { id: input.int32()?, at_ns: input.int()? },
        SITE => {
            let id = u32::try_from(apart(u64::from(context.last_id), input.int()?)).ok()?;
            let head = input.byte()?;
            let (origin, truncated) = (Origin::from_u8(head & !TRUNCATED)?, head & TRUNCATED != 0);
            let path = input.int32()?;
            let shared = usize::try_from(input.int()?).ok()?;
            let mut frames = frames(input)?;
            let first = context.last.len().checked_sub(shared)?;
            frames.extend_from_slice(context.last.get(first..)?);
            if frames.len() > MOST_FRAMES {
                return None;
            }
            context.last.clone_from(&frames);
            context.last_id = id;
            Record::Site { id, origin, truncated, path, frames }
        }
        NOTE => Record::Note { text: input.text()? },
        MARK => Record::Mark { at_ns: input.int()?, label: input.text()? },
        PATH => {
            let (id, truncated) = (input.int32()?, input.byte()? != 0);
            let count = input.count().filter(|&count| count <= MOST_FRAMES)?;
            let (mut pcs, mut last) = (Vec::with_capacity(count), 0);
            for _ in 0..count {
                last = apart(last, input.int()?);
                pcs.push(last);
            }
            Record::Path { id, truncated, pcs }
        }
        _ => return None,
    })
}

fn frames(input: &mut Input) -> Option<Vec<Frame>> {
    let count = input.count()?;
    let mut frames = Vec::with_capacity(count);
    let mut last = 0u64;
    for _ in 0..count {
        let head = input.int()?;
        frames.push(if head & 1 == 0 {
            last = apart(last, head >> 1);
            Frame::Native { pc: last }
        } else {
            Frame::Python {
                code: (head >> 2).try_into().ok()?,
                instruction: input.int32()?,
                entry: head & 2 != 0,
            }
        });
    }
    Some(frames)
}

fn texts(input: &mut Input) -> Option<Vec<String>> {
    let count = input.count()?;
    (0..count).map(|_| input.text()).collect()
}
