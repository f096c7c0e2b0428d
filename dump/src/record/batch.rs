//! Batches of records: each is whole, or is not there.

/// Bytes before a batch's records.
pub const FRAMING: usize = 8;

/// Begins a batch with room for so many bytes of records, to be written after what is in it.
pub fn begin_batch(room: usize) -> Vec<u8> {
    let mut batch = Vec::with_capacity(FRAMING + room);
    batch.extend_from_slice(&[0; FRAMING]);
    batch
}

/// Makes a batch a piece of the log. It gets no more records then.
pub fn end_batch(batch: &mut [u8]) {
    if let Some((framing, records)) = batch.split_first_chunk_mut::<FRAMING>() {
        let (len, crc) = (records.len() as u32, crc32fast::hash(records));
        *framing = ((u64::from(crc) << 32) | u64::from(len)).to_le_bytes();
    }
}

/// Takes the records of one batch from the front of `log`. `None`: it ends here; an error: the bytes
/// are no batch.
pub fn read_batch<'a>(log: &mut &'a [u8]) -> Option<Result<&'a [u8], Damaged>> {
    if log.is_empty() {
        return None;
    }
    let read = || {
        let (framing, rest) = log.split_first_chunk::<FRAMING>()?;
        let framing = u64::from_le_bytes(*framing);
        let (len, crc) = (framing as u32 as usize, (framing >> 32) as u32);
        let records = rest.get(..len).filter(|records| crc32fast::hash(records) == crc)?;
        Some((records, rest.get(len..)?))
    };
    let Some((records, rest)) = read() else { return Some(Err(Damaged)) };
    *log = rest;
    Some(Ok(records))
}

/// The bytes are not what they were, or never were what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;
