//! Packs a dump that nobody writes any more.
//!
//! While a process runs, each site has counters and moments at fixed places, and logs and blobs have
//! room to grow. Once it has ended, most of that is zeros: what is left takes half of the file, or
//! less.

use core::mem::{offset_of, size_of};

use super::file::{Arrays, File};
use crate::blob::Numbers;
use crate::error::Error;
use crate::layout::{
    BLOBS, Beside, BlobCopy, BlobKind, BlobSlot, Extent, ExtentKind, HEADER_LEN, Header,
    MAX_EXTENTS, SEALED_LEN,
};
use crate::record::Damaged;

/// The same dump in as little room as it needs: `None` if `bytes` is no whole dump of a process
/// that has ended by itself, or is packed already.
pub fn pack(bytes: &[u8]) -> Option<Vec<u8>> {
    let file = File { bytes };
    file.check_identity().ok()?;
    file.check_seal().ok()?;
    if file.u32(offset_of!(Header, sealed)) == 0 || file.blob(BlobKind::Numbers).ok()?.is_some() {
        return None;
    }
    packed(&file).ok()
}

fn packed(file: &File) -> Result<Vec<u8>, Error> {
    let extents = file.extents()?;
    let (log, log_len) = file.log(&extents)?;
    let arrays = Arrays::new(file, &extents)?;
    let numbers = Numbers::encode(arrays.len(), |id| arrays.numbers(id));
    let blob = |index: usize| offset_of!(Header, blobs) + index * size_of::<BlobSlot>();
    let heap = offset_of!(Header, beside) + offset_of!(Beside, heap);
    let slots = (0..BLOBS).map(blob).chain([heap]);
    let slots = slots.map(|at| {
        let content = file.slot(at).map_err(|Damaged| file.corrupt("a blob", at))?;
        Ok((at, if at == blob(BlobKind::Numbers as usize) { Some(&*numbers) } else { content }))
    });
    let slots: Vec<(usize, Option<&[u8]>)> = slots.collect::<Result<_, Error>>()?;

    let blobs: usize = slots.iter().filter_map(|(_, content)| *content).map(<[u8]>::len).sum();
    let mut out = Vec::with_capacity(HEADER_LEN + log_len + blobs);
    out.extend_from_slice(file.bytes.get(..HEADER_LEN).unwrap_or_default());
    log.iter().for_each(|piece| out.extend_from_slice(piece));
    for (at, content) in slots {
        zero(&mut out, at, size_of::<BlobSlot>());
        if let Some(content) = content {
            let (offset, len) = (out.len() as u64, content.len() as u64);
            put64(&mut out, at + offset_of!(BlobCopy, offset), offset);
            put64(&mut out, at + offset_of!(BlobCopy, capacity), len);
            put64(&mut out, at + offset_of!(BlobCopy, len), len);
            put32(&mut out, at + offset_of!(BlobCopy, crc), crc32fast::hash(content));
            put64(&mut out, at + offset_of!(BlobSlot, active), 1);
            out.extend_from_slice(content);
        }
    }
    let table = offset_of!(Header, extents);
    zero(&mut out, table, MAX_EXTENTS * size_of::<Extent>());
    put32(&mut out, table + offset_of!(Extent, kind), ExtentKind::Log as u32);
    put64(&mut out, table + offset_of!(Extent, offset), HEADER_LEN as u64);
    put64(&mut out, table + offset_of!(Extent, len), log_len as u64);
    put32(&mut out, offset_of!(Header, extent_count), 1);
    let len = out.len() as u64;
    put64(&mut out, offset_of!(Header, file_len), len);
    put32(&mut out, offset_of!(Header, sealed_crc), 0);
    let seal = crc32fast::hash(out.get(..SEALED_LEN).unwrap_or_default());
    put32(&mut out, offset_of!(Header, sealed_crc), seal);
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
