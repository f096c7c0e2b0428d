//! Files and descriptors. A path is bytes that end in zero.

use std::borrow::Cow;

use super::{Errno, syscall};

/// Opens the file that `path`, which ends in a zero byte, names.
pub fn open(path: &[u8], flags: i32, mode: u32) -> Result<i32, Errno> {
    if path.last() != Some(&0) {
        return Err(Errno(libc::EINVAL));
    }
    let flags = flags | libc::O_CLOEXEC;
    let at = libc::AT_FDCWD as isize as usize;
    // SAFETY: `path` is a string that ends in zero, as was just checked.
    unsafe {
        syscall(libc::SYS_openat, [at, path.as_ptr() as usize, flags as usize, mode as usize, 0, 0])
            .map(|fd| fd as i32)
    }
}

/// Closes a descriptor that we opened.
pub fn close(fd: i32) {
    // SAFETY: closing is memory-safe whatever the descriptor.
    let _ = unsafe { syscall(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Has a descriptor that we opened lead nowhere: whatever is done to it from now on fails.
pub fn make_useless(fd: i32) {
    let Ok(nowhere) = open(b"/\0", libc::O_PATH, 0) else { return };
    // SAFETY: as in `close`; `fd` is ours.
    let _ = unsafe { syscall(libc::SYS_dup2, [nowhere as usize, fd as usize, 0, 0, 0, 0]) };
    close(nowhere);
}

/// Removes the file that `path`, which ends in a zero byte, names.
pub fn unlink(path: &[u8]) {
    if path.last() == Some(&0) {
        // SAFETY: `path` is a string that ends in zero.
        let _ = unsafe { syscall(libc::SYS_unlink, [path.as_ptr() as usize, 0, 0, 0, 0, 0]) };
    }
}

/// What the system knows of an open file.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    /// Device and inode.
    pub identity: (u64, u64),
    /// Length in bytes.
    pub len: u64,
    /// Permission bits.
    pub mode: u32,
    /// User id of the owner.
    pub owner: u32,
    /// Names that it has.
    pub links: u64,
}

/// See [`Status`].
pub fn status(fd: i32) -> Option<Status> {
    // SAFETY: all-zero bytes are a valid `stat`, which is plain data.
    let mut stat: libc::stat = unsafe { core::mem::zeroed() };
    // SAFETY: the kernel writes one `stat`; the glibc layout is the kernel's on x86-64.
    unsafe { syscall(libc::SYS_fstat, [fd as usize, &raw mut stat as usize, 0, 0, 0, 0]) }.ok()?;
    Some(Status {
        identity: (stat.st_dev, stat.st_ino),
        len: stat.st_size as u64,
        mode: stat.st_mode & 0o7777,
        owner: stat.st_uid,
        links: stat.st_nlink,
    })
}

/// Device and inode of an open file.
pub fn identity(fd: i32) -> Option<(u64, u64)> {
    status(fd).map(|file| file.identity)
}

/// Sets the permission bits of an open file.
pub fn set_mode(fd: i32, mode: u32) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    unsafe { syscall(libc::SYS_fchmod, [fd as usize, mode as usize, 0, 0, 0, 0]) }.map(|_| ())
}

/// Gives the file `from` the name `to`, in place of the file that has it. Both end in a zero byte.
pub fn rename(from: &[u8], to: &[u8]) -> bool {
    let ended = from.last() == Some(&0) && to.last() == Some(&0);
    // SAFETY: both are strings that end in zero, as was just checked.
    ended
        && unsafe {
            syscall(libc::SYS_rename, [from.as_ptr() as usize, to.as_ptr() as usize, 0, 0, 0, 0])
                .is_ok()
        }
}

/// Gives an open file without a name this one, which no file may have.
pub fn name_file(fd: i32, name: &[u8]) -> Result<(), Errno> {
    if name.last() != Some(&0) {
        return Err(Errno(libc::EINVAL));
    }
    let from = format!("/proc/self/fd/{fd}\0");
    let here = libc::AT_FDCWD as isize as usize;
    let flags = libc::AT_SYMLINK_FOLLOW as usize;
    // SAFETY: both are strings that end in zero.
    unsafe {
        let paths = [here, from.as_ptr() as usize, here, name.as_ptr() as usize, flags, 0];
        syscall(libc::SYS_linkat, paths).map(|_| ())
    }
}

/// Gives the calling thread a descriptor table of its own, empty.
/// Files that it opens are then invisible to the program, and the program's
/// `close` cannot take them away.
pub fn own_descriptors() -> bool {
    const CLOSE_RANGE_UNSHARE: usize = 2;
    // SAFETY: descriptors only; the caller is a thread that uses none of the program's.
    unsafe {
        syscall(libc::SYS_close_range, [0, u32::MAX as usize, CLOSE_RANGE_UNSHARE, 0, 0, 0]).is_ok()
            || syscall(libc::SYS_unshare, [libc::CLONE_FILES as usize, 0, 0, 0, 0, 0])
                .map(|_| close_each())
                .is_ok()
    }
}

/// Closes every descriptor of the caller's table, which must be a copy of the program's.
pub fn close_all() {
    // SAFETY: descriptors only.
    let closed = unsafe { syscall(libc::SYS_close_range, [0, u32::MAX as usize, 0, 0, 0, 0]) };
    if closed.is_err() {
        close_each();
    }
}

/// The same one by one: before Linux 5.9, and where a sandbox does not know the call.
fn close_each() {
    // (One must be open while they are listed, and there may be room for none.)
    close(0);
    match numbers_in(b"/proc/thread-self/fd\0") {
        Ok(numbers) => numbers.into_iter().for_each(|fd| close(fd as i32)),
        Err(_) => (0..MOST_OPEN).for_each(close),
    }
}

/// Where nobody tells which descriptors are open, those below this are closed.
const MOST_OPEN: i32 = 1 << 16;

/// The entries of a folder that are numbers.
pub fn numbers_in(folder: &[u8]) -> Result<Vec<u32>, Errno> {
    let fd = open(folder, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let mut numbers = Vec::new();
    let mut buffer = [0u8; 4096];
    loop {
        // SAFETY: the buffer is writable for its whole length.
        let read = unsafe {
            syscall(
                libc::SYS_getdents64,
                [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0],
            )
        };
        let Ok(len @ 1..) = read else { break };
        let mut at = 0;
        // inode, offset, length of the entry, kind, name
        while let Some(entry) = buffer.get(at..len).filter(|entry| entry.len() > 19) {
            let size = usize::from(u16::from_le_bytes([entry[16], entry[17]]));
            let name = entry.get(19..size).unwrap_or_default();
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            numbers
                .extend(core::str::from_utf8(name).ok().and_then(|name| name.parse::<u32>().ok()));
            if size == 0 {
                break;
            }
            at += size;
        }
    }
    close(fd);
    Ok(numbers)
}

/// Whether a descriptor is a terminal.
pub fn is_terminal(fd: i32) -> bool {
    let mut termios = [0u8; 64];
    // SAFETY: TCGETS writes the kernel's `termios`, which is 36 bytes.
    unsafe {
        syscall(
            libc::SYS_ioctl,
            [fd as usize, libc::TCGETS as usize, termios.as_mut_ptr() as usize, 0, 0, 0],
        )
        .is_ok()
    }
}

/// Reads up to `buffer.len()` bytes.
pub fn read(fd: i32, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the buffer is writable for its whole length.
    unsafe {
        syscall(libc::SYS_read, [fd as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0])
    }
}

/// The same from a place on.
pub fn read_at(fd: i32, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (to, len) = (buffer.as_mut_ptr() as usize, buffer.len());
    // SAFETY: as in `read`.
    unsafe { syscall(libc::SYS_pread64, [fd as usize, to, len, at as usize, 0, 0]) }
}

/// The whole of a file, such as one of `/proc`; empty if it cannot be read.
pub fn read_file(path: &[u8]) -> Vec<u8> {
    read_file_sized(path, 0)
}

/// The same with room for so many bytes from the start: no memory is mapped while it is read.
pub fn read_file_sized(path: &[u8], room: usize) -> Vec<u8> {
    let mut content = Vec::with_capacity(room);
    let Ok(fd) = open(path, libc::O_RDONLY, 0) else { return content };
    let mut buffer = [0u8; 4096];
    while let Ok(count @ 1..) = read(fd, &mut buffer) {
        content.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    close(fd);
    content
}

/// What [`read_file`] read, as text. (Nearly always it is, and to see that takes a tenth of the time.)
pub fn text(content: &[u8]) -> Cow<'_, str> {
    match core::str::from_utf8(content) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(content),
    }
}

/// The target of a symbolic link, such as `/proc/self/exe`.
pub fn read_link(path: &[u8]) -> Vec<u8> {
    let mut buffer = [0u8; 4096];
    if path.last() != Some(&0) {
        return Vec::new();
    }
    // SAFETY: `path` ends in zero, and the buffer is writable for its whole length.
    let len = unsafe {
        syscall(
            libc::SYS_readlink,
            [path.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0, 0],
        )
    };
    buffer.get(..len.unwrap_or(0)).unwrap_or_default().to_vec()
}

/// Writes to a descriptor; what does not fit is left out.
pub fn write(fd: i32, bytes: &[u8]) {
    // SAFETY: the bytes are readable for their whole length.
    let _ = unsafe {
        syscall(libc::SYS_write, [fd as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0])
    };
}

/// Writes all of `bytes` at `offset`.
pub fn write_at(fd: i32, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        // SAFETY: `rest` is readable for its whole length.
        let wrote = unsafe {
            syscall(
                libc::SYS_pwrite64,
                [fd as usize, rest.as_ptr() as usize, rest.len(), offset as usize + done, 0, 0],
            )?
        };
        if wrote == 0 {
            return Err(Errno(libc::ENOSPC));
        }
        done += wrote;
    }
    Ok(())
}

/// Makes sure that the file has room, so that a later write through a mapping
/// can not raise SIGBUS for want of it.
pub fn allocate(fd: i32, offset: u64, len: u64) -> Result<(), Errno> {
    // SAFETY: no memory is involved.
    let result = unsafe {
        syscall(libc::SYS_fallocate, [fd as usize, 0, offset as usize, len as usize, 0, 0])
    };
    match result {
        Ok(_) => Ok(()),
        Err(Errno(libc::EOPNOTSUPP)) => write_zeros(fd, offset, len),
        Err(error) => Err(error),
    }
}

/// What `posix_fallocate` does on a file system that cannot reserve; also has the kernel take the pages
/// of what was reserved, many at a time, where the first touch of each would cost it a fault.
pub fn write_zeros(fd: i32, offset: u64, len: u64) -> Result<(), Errno> {
    let zeros = vec![0u8; ZEROS.min(len as usize)];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(ZEROS as u64) as usize;
        write_at(fd, offset + done, zeros.get(..part).unwrap_or_default())?;
        done += part as u64;
    }
    Ok(())
}

const ZEROS: usize = 64 << 10;

/// Makes a file longer, without taking room on disk.
pub fn truncate(fd: i32, len: u64) -> Result<(), Errno> {
    // SAFETY: no memory is involved; nothing beyond the old end is mapped.
    unsafe { syscall(libc::SYS_ftruncate, [fd as usize, len as usize, 0, 0, 0, 0]) }.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_emptied_one_by_one() {
        let mine = open(b"/dev/null\0", libc::O_RDONLY, 0).expect("a descriptor");
        let left = std::thread::spawn(|| {
            // SAFETY: from here on this thread has a table of its own, and uses none of it.
            unsafe { syscall(libc::SYS_unshare, [libc::CLONE_FILES as usize, 0, 0, 0, 0, 0]) }
                .expect("a table of its own");
            close_each();
            numbers_in(b"/proc/thread-self/fd\0").expect("the folder")
        });
        // (The folder itself is open while it is read.)
        assert_eq!(left.join().expect("it ends"), [0]);
        assert!(status(mine).is_some(), "the others keep theirs");
        close(mine);
    }
}
