//! Finds the parts of a dump in its bytes. Nothing is taken from there unchecked.

use core::mem::{offset_of, size_of};

use super::{Amount, End, Snapshots, Totals};
use crate::blob::SiteNumbers;
use crate::error::Error;
use crate::heap::Heap;
use crate::layout::{
    BEYOND, BLOBS, Beside, BlobCopy, BlobKind, BlobSlot, Counters, EndKind, Extent, ExtentKind,
    FURTHER, Further, Growth, HEADER_LEN, Header, MAGIC, MAJOR, MAX_EXTENTS, Moments, SEALED_LEN,
    SITES, SnapshotState, Tally, Wide,
};
use crate::record::Damaged;

/// An extent, checked to lie inside the file.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    kind: u32,
    index: u32,
    offset: usize,
    len: usize,
}

/// An array spread over extents.
struct Array {
    pieces: Vec<(u64, usize)>,
    item: usize,
    len: usize,
}

impl Array {
    fn new<T>(
        file: &File,
        extents: &[Piece],
        kind: ExtentKind,
        growth: Growth,
    ) -> Result<Array, Error> {
        let item = size_of::<T>();
        let mut array = Array { pieces: Vec::new(), item, len: 0 };
        for piece in extents.iter().filter(|piece| piece.kind == kind as u32) {
            let first = array.len as u64;
            let wanted = growth.through(array.pieces.len() as u32);
            let items = (piece.len / item) as u64;
            if piece.index as usize != array.pieces.len() || first + items != wanted {
                return Err(file.corrupt("the list of extents", offset_of!(Header, extents)));
            }
            array.pieces.push((first, piece.offset));
            array.len = wanted as usize;
        }
        Ok(array)
    }

    /// Where its items are, in order.
    fn offsets(&self) -> impl Iterator<Item = usize> {
        let ends = self.pieces.iter().skip(1).map(|&(first, _)| first).chain([self.len as u64]);
        let pieces = self.pieces.iter().zip(ends);
        pieces.flat_map(move |(&(first, offset), end)| {
            (0..(end - first) as usize).map(move |item| offset + item * self.item)
        })
    }
}

/// What the seal covers.
const ARRAYS: [ExtentKind; 3] = [ExtentKind::Counters, ExtentKind::Moments, ExtentKind::Further];

/// The counters and moments of all sites, where a running process keeps them.
pub(super) struct Arrays<'f, 'a> {
    file: &'f File<'a>,
    counters: Array,
    moments: Array,
    /// Which sites have a [`Further`], and where, in order; of one site's the first comes first.
    further: Vec<(u32, usize)>,
    count: usize,
    /// Which of the peaks to read.
    peak: Option<usize>,
}

impl<'f, 'a> Arrays<'f, 'a> {
    pub(super) fn new(file: &'f File<'a>, extents: &[Piece]) -> Result<Arrays<'f, 'a>, Error> {
        let at = offset_of!(Header, site_count);
        let count = file.u32(at) as usize;
        let counters = Array::new::<Counters>(file, extents, ExtentKind::Counters, SITES)?;
        let moments = Array::new::<Moments>(file, extents, ExtentKind::Moments, SITES)?;
        if count > counters.len || count > moments.len {
            return Err(file.corrupt("the number of sites", at));
        }
        let further = Array::new::<Further>(file, extents, ExtentKind::Further, FURTHER)?;
        let used = (file.u32(offset_of!(Header, further_count)) as usize).min(further.len);
        let owner = |at| file.u32(at + offset_of!(Further, owner)).checked_sub(1);
        let all = further.offsets().take(used);
        let mut further: Vec<_> = all.filter_map(|at| Some((owner(at)?, at))).collect();
        further.sort_by_key(|&(owner, _)| owner);
        let peak = (file.u32(offset_of!(Header, peak_bank)) as usize).checked_sub(1);
        Ok(Arrays { file, counters, moments, further, count, peak })
    }

    /// Those of every site, in order.
    pub(super) fn numbers(&self) -> impl ExactSizeIterator<Item = SiteNumbers> {
        let mut places = self.counters.offsets().zip(self.moments.offsets());
        let mut further = self.further.as_slice();
        (0..self.count as u32).map(move |site| {
            let Some((at, moments)) = places.next() else { return SiteNumbers::default() };
            let own = further.iter().take_while(|it| it.0 == site).count();
            let (own, rest) = further.split_at_checked(own).unwrap_or_default();
            further = rest;
            self.numbers_at(at, moments, own)
        })
    }

    #[inline(always)]
    fn numbers_at(&self, at: usize, moments: usize, further: &[(u32, usize)]) -> SiteNumbers {
        let mut totals = self.file.tally(at + offset_of!(Counters, held));
        for (_, further) in further {
            let words = [offset_of!(Further, free), offset_of!(Further, own)];
            for word in words.map(|word| self.file.tally(further + word)) {
                totals.allocated = totals.allocated + word.allocated;
                totals.freed = totals.freed + word.freed;
            }
            let wide = |at| self.file.wide(further + at);
            totals.allocated = totals.allocated + wide(offset_of!(Further, allocated));
            totals.freed = totals.freed + wide(offset_of!(Further, freed));
        }
        let moment = |place: usize, wide: usize| match self.file.u64(moments + place) {
            BEYOND => {
                let first = further.first().map(|(_, further)| self.file.wide(further + wide));
                first.unwrap_or_default()
            }
            word => Amount::of(word),
        };
        let peak = |bank| {
            let place = offset_of!(Moments, peak) + bank * size_of::<u64>();
            moment(place, offset_of!(Further, peak) + bank * size_of::<Wide>())
        };
        SiteNumbers {
            totals,
            peak: self.peak.map_or(Amount::default(), peak),
            last: moment(offset_of!(Moments, last), offset_of!(Further, last)),
        }
    }
}

/// The bytes of the file, with loads that never fail: what is not there is zero.
pub(super) struct File<'a> {
    pub(super) bytes: &'a [u8],
}

impl<'a> File<'a> {
    pub(super) fn u32(&self, at: usize) -> u32 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }

    pub(super) fn u64(&self, at: usize) -> u64 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// A [`Wide`].
    fn wide(&self, at: usize) -> Amount {
        Amount {
            bytes: self.u64(at + offset_of!(Wide, bytes)),
            blocks: self.u64(at + offset_of!(Wide, blocks)),
        }
    }

    /// A [`Tally`].
    fn tally(&self, at: usize) -> Totals {
        Totals {
            allocated: Amount::of(self.u64(at + offset_of!(Tally, allocated))),
            freed: Amount::of(self.u64(at + offset_of!(Tally, freed))),
        }
    }

    /// Whether the arrays may lack something: amounts were on their way when they were read, or some
    /// have found no room in the file.
    pub(super) fn lacks_amounts(&self, extents: &[Piece]) -> bool {
        let further = extents.iter().filter(|piece| piece.kind == ExtentKind::Further as u32);
        let room: usize = further.map(|piece| piece.len / size_of::<Further>()).sum();
        let is_packed = self.blob(BlobKind::Numbers).is_ok_and(|numbers| numbers.is_some());
        let used = self.u32(offset_of!(Header, further_count)) as usize;
        !self.u64(offset_of!(Header, moves)).is_multiple_of(2) || (used > room && !is_packed)
    }

    pub(super) fn corrupt(&self, what: &'static str, at: usize) -> Error {
        Error::Corrupt { what, offset: at as u64 }
    }

    pub(super) fn corrupt_blob(&self, kind: BlobKind) -> Error {
        let what = match kind {
            BlobKind::Timeline => "the timeline",
            BlobKind::Census => "the census",
            BlobKind::FinalCensus => "the last census",
            BlobKind::Numbers => "the counters",
        };
        self.corrupt(what, offset_of!(Header, blobs) + kind as usize * size_of::<BlobSlot>())
    }

    pub(super) fn check_identity(&self) -> Result<(), Error> {
        if self.bytes.is_empty() {
            return Err(Error::Empty);
        }
        let shared = self.bytes.len().min(MAGIC.len());
        if self.bytes.get(..shared) != MAGIC.get(..shared) {
            return Err(Error::Foreign);
        }
        let have = self.bytes.len() as u64;
        if self.bytes.len() < HEADER_LEN {
            return Err(Error::Truncated { have, need: HEADER_LEN as u64 });
        }
        let version = self.u32(offset_of!(Header, major));
        let (major, minor) = (version as u16, (version >> 16) as u16);
        if major != MAJOR {
            return Err(Error::Version { major, minor });
        }
        let identity = self.bytes.get(..offset_of!(Header, identity_crc)).unwrap_or_default();
        if crc32fast::hash(identity) != self.u32(offset_of!(Header, identity_crc))
            || self.u32(offset_of!(Header, header_len)) as usize != HEADER_LEN
        {
            return Err(self.corrupt("the header", 0));
        }
        let need = self.u64(offset_of!(Header, file_len));
        if have < need {
            return Err(Error::Truncated { have, need });
        }
        Ok(())
    }

    /// Once sealed, header and arrays have a checksum too.
    pub(super) fn check_seal(&self) -> Result<(), Error> {
        match self.u32(offset_of!(Header, sealed)) {
            0 => return Ok(()),
            1 => {}
            _ => return Err(self.corrupt("the seal", offset_of!(Header, sealed))),
        }
        let mut crc = crc32fast::Hasher::new();
        let at = offset_of!(Header, sealed_crc);
        crc.update(self.bytes.get(..at).unwrap_or_default());
        crc.update(&[0; 4]);
        crc.update(self.bytes.get(at + 4..SEALED_LEN).unwrap_or_default());
        for piece in self.extents()? {
            if ARRAYS.iter().any(|kind| piece.kind == *kind as u32) {
                crc.update(self.slice(piece.offset, piece.len).unwrap_or_default());
            }
        }
        if crc.finalize() != self.u32(at) {
            return Err(self.corrupt("the header or the counters", at));
        }
        Ok(())
    }

    pub(super) fn end(&self) -> Result<Option<End>, Error> {
        let kind = match self.u32(offset_of!(Header, end_kind)) {
            0 => return Ok(None),
            1 => EndKind::Exit,
            2 => EndKind::QuickExit,
            3 => EndKind::Exec,
            _ => return Err(self.corrupt("the way it ended", offset_of!(Header, end_kind))),
        };
        Ok(Some(End {
            kind,
            status: self.u32(offset_of!(Header, end_status)) as i32,
            at_ns: self.u64(offset_of!(Header, end_ns)),
        }))
    }

    fn slice(&self, offset: usize, len: usize) -> Option<&'a [u8]> {
        self.bytes.get(offset..offset.checked_add(len)?)
    }

    pub(super) fn extents(&self) -> Result<Vec<Piece>, Error> {
        let table = offset_of!(Header, extents);
        let count = self.u32(offset_of!(Header, extent_count)) as usize;
        if count > MAX_EXTENTS {
            return Err(self.corrupt("the list of extents", table));
        }
        let mut extents = Vec::with_capacity(count);
        for index in 0..count {
            let at = table + index * size_of::<Extent>();
            let offset = self.u64(at + offset_of!(Extent, offset));
            let len = self.u64(at + offset_of!(Extent, len));
            let piece = Piece {
                kind: self.u32(at + offset_of!(Extent, kind)),
                index: self.u32(at + offset_of!(Extent, index)),
                offset: usize::try_from(offset).unwrap_or(usize::MAX),
                len: usize::try_from(len).unwrap_or(usize::MAX),
            };
            if self.slice(piece.offset, piece.len).is_none() {
                return Err(self.corrupt("the list of extents", at));
            }
            extents.push(piece);
        }
        Ok(extents)
    }

    /// The pieces of the log, in order, and their length together.
    pub(super) fn log(&self, extents: &[Piece]) -> Result<(Vec<&'a [u8]>, usize), Error> {
        let at = offset_of!(Header, log_len);
        let len = usize::try_from(self.u64(at)).unwrap_or(usize::MAX);
        let (mut pieces, mut rest) = (Vec::new(), len);
        for piece in extents.iter().filter(|piece| piece.kind == ExtentKind::Log as u32) {
            let take = piece.len.min(rest);
            pieces.push(self.slice(piece.offset, take).unwrap_or_default());
            rest -= take;
        }
        if rest > 0 {
            return Err(self.corrupt("the length of the log", at));
        }
        Ok((pieces, len))
    }

    pub(super) fn blob(&self, kind: BlobKind) -> Result<Option<&'a [u8]>, Error> {
        const { assert!((BlobKind::Numbers as usize) < BLOBS) };
        let slot = offset_of!(Header, blobs) + kind as usize * size_of::<BlobSlot>();
        self.slot(slot).map_err(|_| self.corrupt_blob(kind))
    }

    pub(super) fn heap(&self) -> Result<Option<Heap>, Error> {
        let at = offset_of!(Header, beside) + offset_of!(Beside, heap);
        let damage = self.corrupt("the heap snapshot", at);
        match self.slot(at) {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) if Heap::is_foreign(bytes) => Ok(None),
            Ok(Some(bytes)) => Heap::decode(bytes).map(Some).ok_or(damage),
            Err(Damaged) => Err(damage),
        }
    }

    pub(super) fn snapshots(&self) -> Snapshots {
        let at = offset_of!(Header, beside);
        let running = self.u32(at + offset_of!(Beside, state)) == SnapshotState::Running as u32;
        Snapshots {
            running: running.then(|| self.u32(at + offset_of!(Beside, pid))),
            began_ns: self.u64(at + offset_of!(Beside, began_ns)),
            taken: self.u32(at + offset_of!(Beside, taken)),
            failed: self.u32(at + offset_of!(Beside, failed)),
            failure: self.u32(at + offset_of!(Beside, failure)),
        }
    }

    pub(super) fn slot(&self, slot: usize) -> Result<Option<&'a [u8]>, Damaged> {
        let copy = match self.u64(slot + offset_of!(BlobSlot, active)) {
            0 => return Ok(None),
            active @ 1..=2 => slot + (active as usize - 1) * size_of::<BlobCopy>(),
            _ => return Err(Damaged),
        };
        let offset = self.u64(copy + offset_of!(BlobCopy, offset));
        let len = self.u64(copy + offset_of!(BlobCopy, len));
        let bytes = usize::try_from(offset).ok().zip(usize::try_from(len).ok());
        let bytes = bytes.and_then(|(offset, len)| self.slice(offset, len));
        match bytes {
            Some(bytes) if crc32fast::hash(bytes) == self.u32(copy + offset_of!(BlobCopy, crc)) => {
                Ok(Some(bytes))
            }
            _ => Err(Damaged),
        }
    }
}
