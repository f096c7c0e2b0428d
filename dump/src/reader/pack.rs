//! Packs a dump that nobody writes any more.
//!
//! While a process runs, each site has counters and moments at fixed places, and logs and blobs have
//! room to grow. Once it has ended, most of that is zeros: what is left takes half of the file, or
//! less.

use core::mem::{offset_of, size_of};
use std::borrow::Cow;

use super::file::{Arrays, File};
use crate::blob::Numbers;
use crate::error::Error;
use crate::layout::{
    BLOBS, Beside, BlobCopy, BlobKind, BlobSlot, Extent, ExtentKind, HEADER_LEN, Header,
    MAX_EXTENTS, SEALED_LEN,
};
use crate::record::Damaged;

/// A packed dump, in pieces: most of it lies in the dump that it was made of.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed<'a> {
    head: Vec<u8>,
    rest: Vec<Cow<'a, [u8]>>,
    len: u64,
}

impl<'a> Packed<'a> {
    /// Its length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "it has a header")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Its bytes, piece by piece.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(&*self.head).chain(self.rest.iter().map(|piece| &**piece))
    }

    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        self.pieces().collect::<Vec<_>>().concat()
    }

    fn push(&mut self, piece: Cow<'a, [u8]>) {
        self.len += piece.len() as u64;
        self.rest.push(piece);
    }
}

/// The same dump in as little room as it needs: `None` if `bytes` is no whole dump of a process
/// that has ended by itself, or is packed already.
pub fn pack(bytes: &[u8]) -> Option<Packed<'_>> {
    let file = File { bytes };
    file.check_identity().ok()?;
    file.check_seal().ok()?;
    if file.u32(offset_of!(Header, sealed)) == 0 || file.blob(BlobKind::Numbers).ok()?.is_some() {
        return None;
    }
    packed(&file).ok()
}

fn packed<'a>(file: &File<'a>) -> Result<Packed<'a>, Error> {
    let extents = file.extents()?;
    let (log, log_len) = file.log(&extents)?;
    let arrays = Arrays::new(file, &extents)?;
    let mut numbers = Some(Numbers::encode(arrays.numbers()));
    let blob = |index: usize| offset_of!(Header, blobs) + index * size_of::<BlobSlot>();
    let heap = offset_of!(Header, beside) + offset_of!(Beside, heap);

    let head = file.bytes.get(..HEADER_LEN).unwrap_or_default().to_vec();
    let mut out = Packed { len: head.len() as u64, head, rest: Vec::new() };
    log.iter().for_each(|piece| out.push(Cow::Borrowed(piece)));
    for at in (0..BLOBS).map(blob).chain([heap]) {
        let content = file.slot(at).map_err(|Damaged| file.corrupt("a blob", at))?;
        let content = match at == blob(BlobKind::Numbers as usize) {
            true => numbers.take().map(Cow::Owned),
            false => content.map(Cow::Borrowed),
        };
        zero(&mut out.head, at, size_of::<BlobSlot>());
        if let Some(content) = content {
            let len = content.len() as u64;
            put64(&mut out.head, at + offset_of!(BlobCopy, offset), out.len);
            put64(&mut out.head, at + offset_of!(BlobCopy, capacity), len);
            put64(&mut out.head, at + offset_of!(BlobCopy, len), len);
            put32(&mut out.head, at + offset_of!(BlobCopy, crc), crc32fast::hash(&content));
            put64(&mut out.head, at + offset_of!(BlobSlot, active), 1);
            out.push(content);
        }
    }
    let Packed { head, len, .. } = &mut out;
    let table = offset_of!(Header, extents);
    zero(head, table, MAX_EXTENTS * size_of::<Extent>());
    put32(head, table + offset_of!(Extent, kind), ExtentKind::Log as u32);
    put64(head, table + offset_of!(Extent, offset), HEADER_LEN as u64);
    put64(head, table + offset_of!(Extent, len), log_len as u64);
    put32(head, offset_of!(Header, extent_count), 1);
    put64(head, offset_of!(Header, file_len), *len);
    put32(head, offset_of!(Header, sealed_crc), 0);
    let seal = crc32fast::hash(head.get(..SEALED_LEN).unwrap_or_default());
    put32(head, offset_of!(Header, sealed_crc), seal);
    Ok(out)
}

fn zero(out: &mut [u8], at: usize, len: usize) {
    if let Some(place) = out.get_mut(at..at + len) {
        place.fill(0);
    }
}

fn put32(out: &mut [u8], at: usize, value: u32) {
    if let Some(place) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value.to_le_bytes();
    }
}

fn put64(out: &mut [u8], at: usize, value: u64) {
    if let Some(place) = out.get_mut(at..).and_then(|rest| rest.first_chunk_mut()) {
        *place = value.to_le_bytes();
    }
}
