//! Readings of the process as a whole.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use pyshim_dump::layout::Gauge;

use crate::{mappings, real, store, sys};

/// Memory that pymalloc holds in arenas.
pub static ARENAS: AtomicU64 = AtomicU64::new(0);

/// The resident set, in bytes.
pub fn resident() -> u64 {
    let statm = sys::read_file(b"/proc/self/statm\0");
    let text = String::from_utf8_lossy(&statm);
    let pages = text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

/// The memory that the process may use: the least of what its control group and its limits say;
/// 0: there is no limit.
pub fn memory_limit() -> u64 {
    let number = |path: &str| {
        let text = sys::read_file(path.as_bytes());
        String::from_utf8_lossy(&text).trim().parse::<u64>().ok()
    };
    let mut least = sys::data_limit();
    let groups = sys::read_file(b"/proc/self/cgroup\0");
    for line in String::from_utf8_lossy(&groups).lines() {
        let mut fields = line.splitn(3, ':');
        let (hierarchy, kinds, path) = (fields.next(), fields.next(), fields.next());
        let Some(path) = path else { continue };
        // Version 2 has one hierarchy without a name; a container sees its own group as the root.
        let (root, file) = match (hierarchy, kinds) {
            (Some("0"), Some("")) => ("/sys/fs/cgroup", "memory.max"),
            (_, Some(kinds)) if kinds.split(',').any(|kind| kind == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mut path = path.trim_end_matches('/');
        loop {
            if let Some(limit) = number(&format!("{root}{path}/{file}\0")) {
                least = least.min(limit);
            }
            match path.rsplit_once('/') {
                Some((up, _)) => path = up,
                None => break,
            }
        }
    }
    // Version 1 says "no limit" with a number near the largest.
    if least >= 1 << 60 { 0 } else { least }
}

/// Takes all readings, the costly ones too. Returns the text of the process's map.
pub fn take() -> Vec<u8> {
    let set = |gauge: Gauge, bytes: u64| {
        store::header().gauges[gauge as usize].store(bytes, Relaxed);
    };
    set(Gauge::PymallocArenas, ARENAS.load(Relaxed));
    if let Some(info) = real::mallinfo() {
        set(Gauge::LibcArena, info.arena as u64);
        set(Gauge::LibcMapped, info.hblkhd as u64);
        set(Gauge::LibcFree, info.fordblks as u64);
    }
    let smaps = sys::read_file(b"/proc/self/smaps\0");
    let own = sys::own_mappings();
    let touched = |start, end| sys::touched_bytes_within(&own, start, end);
    let shares = shares(&sys::text(&smaps), mappings::covered, touched);
    set(Gauge::Mapped, shares.mapped);
    set(Gauge::Code, shares.files);
    set(Gauge::Stacks, shares.stacks);
    set(Gauge::Shim, shares.shim);
    set(Gauge::Rss, shares.total);
    set(Gauge::MemoryLimit, memory_limit());
    let status = sys::read_file(b"/proc/self/status\0");
    let text = sys::text(&status);
    let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).map_or(0, kib);
    store::header().gauges[Gauge::PeakRss as usize].fetch_max(peak, Relaxed);
    smaps
}

#[derive(Default)]
struct Shares {
    total: u64,
    files: u64,
    stacks: u64,
    shim: u64,
    mapped: u64,
}

/// Adds up resident pages by what is mapped. `covered` says how many bytes of a range the program
/// mapped itself; where the kernel made one area of several mappings, that part of its pages counts.
/// `touched` says how many bytes in the pages of a range are of our own mappings, and touched.
fn shares(
    smaps: &str,
    covered: impl Fn(usize, usize) -> usize,
    touched: impl Fn(usize, usize) -> u64,
) -> Shares {
    let mut shares = Shares::default();
    let mut kind = "";
    let mut dump = false;
    let (mut area, mut own) = ((0usize, 0usize), 0);
    for line in smaps.lines() {
        if let Some(rest) = line.strip_prefix("Rss:") {
            let bytes = kib(rest);
            shares.total += bytes;
            let len = area.1.saturating_sub(area.0);
            let mapped = match own {
                0 => 0,
                _ if own >= len => bytes,
                _ => (u128::from(bytes) * own as u128 / len as u128) as u64,
            };
            shares.mapped += mapped;
            let bytes = bytes - mapped;
            match kind {
                "[stack]" => shares.stacks += bytes,
                _ if dump => shares.shim += bytes,
                path if path.starts_with('/') => shares.files += bytes,
                _ => shares.shim += touched(area.0, area.1).min(bytes),
            }
        } else if line.as_bytes().first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
            // address perms offset device inode path
            let mut fields = line.split_ascii_whitespace();
            area = fields.next().and_then(range).unwrap_or((0, 0));
            own = covered(area.0, area.1);
            let permissions = fields.next().unwrap_or("");
            kind = fields.nth(3).unwrap_or("");
            // The only files mapped shared and writable that we count as ours are dumps.
            dump = permissions == "rw-s" && kind.ends_with(".dump");
        }
    }
    shares
}

fn range(text: &str) -> Option<(usize, usize)> {
    let (start, end) = text.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

fn kib(text: &str) -> u64 {
    let number = text.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::shares;

    #[test]
    fn resident_pages_are_told_apart() {
        let text = "\
5500-5600 r-xp 00000000 fe:00 12 /usr/bin/python3
Size:                  8 kB
Rss:                   8 kB
7f20-7f30 rw-s 00000000 fe:00 13 /tmp/pyshim.1.dump
Rss:                  16 kB
7f40-7f50 rw-p 00000000 00:00 0
Rss:                  32 kB
7f60-7f80 rw-p 00000000 00:00 0
Rss:                 256 kB
7f90-7fb0 r--p 00000000 fe:00 14 /data
Rss:                 128 kB
7fc0-7fd0 rw-p 00000000 00:00 0
Rss:                 512 kB
7ffd-7fff rw-p 00000000 00:00 0 [stack]
Rss:                  64 kB
";
        let own = |start, _| match start {
            0x7f60 => 0x20,
            0x7f90 => 0x8,
            _ => 0,
        };
        // Ours are parts of the program's areas, and pages that were only read.
        let touched = |start, _| match start {
            0x7f40 => 8 << 10,
            0x7f60 | 0x7ffd => 4 << 10,
            0x7fc0 => 2048 << 10,
            _ => 0,
        };
        let shares = shares(text, own, touched);
        assert_eq!(shares.mapped, (256 + 32) << 10);
        assert_eq!(shares.files, (8 + 96) << 10);
        assert_eq!(shares.shim, (16 + 8 + 512) << 10);
        assert_eq!(shares.stacks, 64 << 10);
        assert_eq!(shares.total, (120 + 256 + 128 + 512) << 10);
    }
}
