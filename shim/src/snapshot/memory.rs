//! The process's memory map, and reading what may not be there.

use core::cell::Cell;

use crate::sys;

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// A file, by position in [`Map::files`].
    File(u32),
    /// The first thread's stack.
    Stack,
    /// What `brk` made: the C library's first heap.
    Brk,
    /// Memory without a file.
    Anonymous,
    /// Pages of the kernel's.
    Kernel,
}

/// A region of addresses with one set of rights.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// Its first address.
    pub start: usize,
    /// The address after its last.
    pub end: usize,
    /// May be read.
    pub readable: bool,
    /// May be written.
    pub writable: bool,
    /// May be executed.
    pub executable: bool,
    /// Shared with others.
    pub shared: bool,
    /// What it is.
    pub backing: Backing,
    /// Resident bytes.
    pub resident: u64,
}

/// Memory of so many bytes may be room for what never comes.
const SPARSE: usize = 64 << 20;

/// All regions, in order.
#[derive(Debug, Default)]
pub struct Map {
    /// In order of address.
    pub regions: Vec<Region>,
    /// Paths of mapped files.
    pub files: Vec<String>,
    /// The region that was found last: most reads go where the one before went.
    last: Cell<usize>,
}

impl Map {
    /// Reads the text of `/proc/PID/smaps`, or of `/proc/PID/maps`.
    pub fn parse(smaps: &str) -> Map {
        let mut map = Map::default();
        for line in smaps.lines() {
            if let Some(rest) = line.strip_prefix("Rss:") {
                let kib = rest.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
                if let Some(region) = map.regions.last_mut() {
                    region.resident = kib.unwrap_or(0u64) * 1024;
                }
            } else if line.as_bytes().first().is_some_and(|byte| !byte.is_ascii_uppercase())
                && let Some(region) = map.region(line)
            {
                map.regions.push(region);
            }
        }
        map
    }

    /// `start-end rights offset device inode path`
    fn region(&mut self, line: &str) -> Option<Region> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let rights = fields.next()?.as_bytes();
        let path = fields.nth(3).unwrap_or("").trim();
        let has = |at: usize, letter: u8| rights.get(at) == Some(&letter);
        let backing = match path {
            "" => Backing::Anonymous,
            "[stack]" => Backing::Stack,
            "[heap]" => Backing::Brk,
            path if path.starts_with("[anon") => Backing::Anonymous,
            path if path.starts_with('[') => Backing::Kernel,
            path => Backing::File(self.file(path)),
        };
        Some(Region {
            start: usize::from_str_radix(start, 16).ok()?,
            end: usize::from_str_radix(end, 16).ok()?,
            readable: has(0, b'r'),
            writable: has(1, b'w'),
            executable: has(2, b'x'),
            shared: has(3, b's'),
            backing,
            resident: 0,
        })
    }

    fn file(&mut self, path: &str) -> u32 {
        // A file's regions follow one another.
        let known = self.files.iter().rposition(|known| known == path);
        known.unwrap_or_else(|| {
            self.files.push(path.to_owned());
            self.files.len() - 1
        }) as u32
    }

    /// Takes over what is resident from the map of another moment, or of another process.
    pub fn take_resident(&mut self, other: &Map) {
        for region in &mut self.regions {
            let known = other.regions.binary_search_by_key(&region.start, |one| one.start);
            if let Some(one) = known.ok().and_then(|at| other.regions.get(at)) {
                region.resident = one.resident;
            }
        }
    }

    /// Those parts of a range that may be read and are memory, not what a file or a device has: what is
    /// there somebody wrote. Of large ones what nobody touched is left out.
    pub fn memory_in(&self, from: usize, to: usize) -> Vec<(usize, usize)> {
        let first = self.regions.partition_point(|region| region.end <= from);
        let regions = self.regions.get(first..).unwrap_or_default().iter();
        let within = regions.take_while(|region| region.start < to);
        let memory = within.filter(|region| region.readable && self.is_memory(region));
        memory
            .flat_map(|region| {
                let part = (region.start.max(from), region.end.min(to));
                // (Each part is a holder of its own; and a copy of the process has no table of the pages
                // that it shares.)
                match region.shared || part.1 - part.0 < SPARSE {
                    true => vec![part],
                    false => sys::touched_parts(part.0, part.1),
                }
            })
            .collect()
    }

    /// Whether a region has no file, or one that is memory.
    fn is_memory(&self, region: &Region) -> bool {
        const FILES: [&str; 5] = ["/memfd:", "/dev/shm/", "/dev/zero", "/SYSV", "/anon_hugepage"];
        match region.backing {
            Backing::Anonymous | Backing::Brk | Backing::Stack => true,
            Backing::Kernel => false,
            Backing::File(file) => self
                .files
                .get(file as usize)
                .is_some_and(|path| FILES.iter().any(|begin| path.starts_with(begin))),
        }
    }

    /// Whether a file has code that is mapped: a program, or a library. Others are data.
    pub fn is_program(&self, file: u32) -> bool {
        let mut regions = self.regions.iter();
        regions.any(|region| region.executable && region.backing == Backing::File(file))
    }

    /// The region that holds `address`.
    pub fn find(&self, address: usize) -> Option<&Region> {
        let holds = |region: &&Region| (region.start..region.end).contains(&address);
        if let Some(region) = self.regions.get(self.last.get()).filter(holds) {
            return Some(region);
        }
        let after = self.regions.partition_point(|region| region.start <= address);
        let at = after.checked_sub(1)?;
        let region = self.regions.get(at).filter(holds)?;
        self.last.set(at);
        Some(region)
    }

    /// Where the image of the program file ends that the region at this position is a part of: behind
    /// its data without content in the file. `None`: it is no program file.
    pub fn image_end(&self, region: usize) -> Option<usize> {
        const MAGIC: u32 = u32::from_le_bytes(*b"\x7fELF");
        const LOADED: u32 = 1;
        let Backing::File(file) = self.regions.get(region)?.backing else { return None };
        // (Another one may be shorter than what is mapped of it.)
        if !self.is_program(file) {
            return None;
        }
        let is_part =
            |at: &usize| self.regions.get(*at).is_some_and(|it| it.backing == Backing::File(file));
        // A file that is loaded twice has two images, each with its head.
        let is_head = |at: usize| self.read::<u32>(self.regions[at].start) == Some(MAGIC);
        let first = (0..=region).rev().take_while(is_part).find(|&at| is_head(at))?;
        let base = self.regions[first].start;
        let headers = base + self.read::<usize>(base + 32)?;
        let (size, count) = (self.read::<u16>(base + 54)?, self.read::<u16>(base + 56)?);
        let loaded = (0..usize::from(count))
            .map(|at| headers + at * usize::from(size))
            .filter(|&at| self.read::<u32>(at) == Some(LOADED));
        let (mut low, mut high) = (usize::MAX, 0);
        for at in loaded {
            let (from, len) = (self.read::<usize>(at + 16)?, self.read::<usize>(at + 40)?);
            low = low.min(from & !4095);
            high = high.max(from.checked_add(len)?);
        }
        base.checked_add(high.checked_sub(low)?)?.checked_next_multiple_of(4096)
    }

    /// The program file that the region at this position belongs to, or begins as a part of, and where that part
    /// ends: memory without a file that follows a file's is its data, as far as its image reaches.
    pub fn image_part(&self, region: usize) -> Option<(u32, usize)> {
        let one = self.regions.get(region)?;
        let mut start = one.start;
        match one.backing {
            Backing::File(file) => return self.is_program(file).then_some((file, one.end)),
            Backing::Anonymous => {}
            _ => return None,
        }
        for (at, before) in self.regions.get(..region)?.iter().enumerate().rev() {
            if before.end != start {
                return None;
            }
            start = before.start;
            match before.backing {
                Backing::File(file) => {
                    let end = self.image_end(at)?.min(one.end);
                    return (end > one.start).then_some((file, end));
                }
                Backing::Anonymous => {}
                _ => return None,
            }
        }
        None
    }

    /// Whether `len` bytes from `address` on can be read.
    pub fn readable(&self, address: usize, len: usize) -> bool {
        let Some(end) = address.checked_add(len) else { return false };
        let mut at = address;
        while at < end {
            match self.find(at) {
                Some(region) if region.readable => at = region.end,
                _ => return false,
            }
        }
        true
    }

    /// A value that may not be there.
    pub fn read<T: Copy>(&self, address: usize) -> Option<T> {
        if !address.is_multiple_of(align_of::<T>()) || !self.readable(address, size_of::<T>()) {
            return None;
        }
        // SAFETY: the bytes are mapped readable (nothing in this copy of the process unmaps them)
        // and aligned; `T`s used here are integers, for which any bytes are valid.
        Some(unsafe { *(address as *const T) })
    }

    /// A string that ends in zero.
    pub fn c_string(&self, address: usize) -> Option<String> {
        let mut bytes = Vec::new();
        for at in address..address.checked_add(512)? {
            match self.read::<u8>(at)? {
                0 => return Some(String::from_utf8_lossy(&bytes).into_owned()),
                byte => bytes.push(byte),
            }
        }
        None
    }
}

/// The text of `smaps`, which takes the kernel a while: pages are counted.
pub fn smaps() -> Vec<u8> {
    sys::read_file(b"/proc/self/smaps\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_told_apart() {
        let text = "\
5500-5600 r-xp 00000000 fe:00 12                         /usr/bin/my python
Rss:                   8 kB
VmFlags: rd
7f20-7f30 rw-s 00000000 fe:00 13 /tmp/a
7f40-7f50 rw-p 00000000 00:00 0
Rss:                  32 kB
7ffd-7fff rw-p 00000000 00:00 0                          [stack]
";
        let map = Map::parse(text);
        assert_eq!(map.regions.len(), 4);
        assert_eq!(map.files, ["/usr/bin/my python", "/tmp/a"]);
        assert_eq!(map.find(0x55ff).unwrap().resident, 8 << 10);
        assert!(map.find(0x5600).is_none());
        assert!(map.find(0x7f20).unwrap().shared);
        assert_eq!(map.find(0x7f45).unwrap().backing, Backing::Anonymous);
        assert_eq!(map.find(0x7ffd).unwrap().backing, Backing::Stack);
        assert!(!map.readable(0x7f2f, 2));
    }

    #[test]
    fn what_is_not_mapped_is_not_read() {
        let map = Map::parse(&String::from_utf8_lossy(&smaps()));
        let here = 77u64;
        assert_eq!(map.read::<u64>(&raw const here as usize), Some(77));
        assert_eq!(map.read::<u64>(8), None);
        assert_eq!(map.read::<u64>(usize::MAX - 7), None);
        assert_eq!(map.c_string(c"hello".as_ptr() as usize).as_deref(), Some("hello"));
    }
}
