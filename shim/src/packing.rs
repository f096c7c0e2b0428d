//! Packs the dump once the process has ended and nobody writes to it any more.
//!
//! That is up to the process itself, or to the copy of it that makes the last
//! snapshot, whichever is done second. The packed dump gets the name of the old
//! one in one step: whoever reads finds the one or the other, whole.

use core::sync::atomic::Ordering::SeqCst;

use pyshim_dump::Packed;
use pyshim_dump::layout::{DONE_COPY, DONE_PROCESS};

use crate::store;
use crate::sys;

/// A smaller file is not worth the milliseconds.
const WORTH: u64 = 4 << 20;

/// The process has sealed its dump. `alone`: no copy of it is at work on a snapshot.
pub fn process_is_done(path: &[u8], identity: (u64, u64), alone: bool) {
    let done = store::header().beside.done.fetch_or(DONE_PROCESS, SeqCst);
    if alone || done & DONE_COPY != 0 {
        pack(path, identity);
    }
}

/// The copy has written its snapshot, or could not.
pub fn copy_is_done(path: &[u8], identity: (u64, u64)) {
    let done = store::header().beside.done.fetch_or(DONE_COPY, SeqCst);
    if done & DONE_PROCESS != 0 {
        pack(path, identity);
    }
}

/// A copy of the process is about to begin.
pub fn copy_begins() {
    store::header().beside.done.store(0, SeqCst);
}

/// If anything goes wrong the dump stays as it is.
fn pack(path: &[u8], identity: (u64, u64)) {
    let Ok(fd) = sys::open(path, libc::O_RDONLY | libc::O_NOFOLLOW, 0) else { return };
    let file = sys::status(fd)
        .filter(|file| file.identity == identity && file.owner == sys::effective_user())
        .filter(|file| file.len > WORTH && file.links == 1);
    let content = file.as_ref().and_then(|file| sys::FileMap::new(fd, file.len as usize));
    sys::close(fd);
    let (Some(file), Some(content)) = (file, content) else { return };
    let packed = pyshim_dump::pack(content.bytes());
    if let Some(packed) = packed.filter(|it| it.len() < file.len.min(sys::file_size_limit())) {
        replace(path, &packed, file.mode);
    }
}

fn replace(path: &[u8], packed: &Packed, mode: u32) {
    let mut beside = path.strip_suffix(b"\0").unwrap_or(path).to_vec();
    beside.extend_from_slice(b".part\0");
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    let Ok(fd) = sys::open(&beside, flags, 0o600) else { return };
    let mut at = 0;
    let mut write = |piece: &[u8]| {
        at += piece.len() as u64;
        sys::write_at(fd, at - piece.len() as u64, piece)
    };
    let written = sys::allocate(fd, 0, packed.len())
        .and_then(|()| packed.pieces().try_for_each(&mut write))
        .and_then(|()| sys::set_mode(fd, mode))
        .is_ok();
    sys::close(fd);
    if !(written && sys::rename(&beside, path)) {
        sys::unlink(&beside);
    }
}
