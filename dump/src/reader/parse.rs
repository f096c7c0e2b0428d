//! Makes the content of a dump of its parts.

use core::mem::offset_of;

use super::file::{Arrays, File, Piece};
use super::{Amount, Dump, Mode, Module, Path, Site, Stack};
use crate::blob::{Census, Numbers, SiteNumbers, Timeline};
use crate::error::Error;
use crate::layout::{BlobKind, GAUGES, Header, LOSSES};
use crate::record::{self, Process, Record, Step};

impl Dump {
    /// Reads a dump. Never panics, whatever the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Dump, Error> {
        let file = File { bytes };
        file.check_identity()?;
        file.check_seal()?;

        let mut dump = Dump {
            pid: file.u32(offset_of!(Header, pid)),
            parent_pid: file.u32(offset_of!(Header, parent_pid)),
            started_unix_ns: file.u64(offset_of!(Header, started_unix_ns)),
            started_ticks: file.u64(offset_of!(Header, started_ticks)),
            mode: match file.u64(offset_of!(Header, sample_mean)) {
                0 => Mode::Exact,
                mean => Mode::Sampled(mean),
            },
            forked: file.u32(offset_of!(Header, forked)) != 0,
            inexact: file.u32(offset_of!(Header, inexact)) != 0,
            heartbeat_ns: file.u64(offset_of!(Header, heartbeat_ns)),
            end: file.end()?,
            final_ns: Some(file.u64(offset_of!(Header, final_ns))).filter(|&ns| ns != 0),
            peak_ns: None,
            peak_seen: file.u64(offset_of!(Header, peak_seen)),
            inherited_freed: Amount {
                blocks: file.u64(offset_of!(Header, inherited_freed_blocks)),
                bytes: file.u64(offset_of!(Header, inherited_freed_bytes)),
            },
            process: Process::default(),
            codes: Vec::new(),
            texts: Vec::new(),
            modules: Vec::new(),
            sites: Vec::new(),
            notes: Vec::new(),
            marks: Vec::new(),
            timeline: Timeline::default(),
            census: None,
            final_census: None,
            heap: None,
            snapshots: file.snapshots(),
            file_len: bytes.len() as u64,
            paths: Vec::new(),
            frames: super::frames::Tree::default(),
            gauges: [0; GAUGES],
            lost: [0; LOSSES],
        };
        for (index, gauge) in dump.gauges.iter_mut().enumerate() {
            *gauge = file.u64(offset_of!(Header, gauges) + index * 8);
        }
        for (index, lost) in dump.lost.iter_mut().enumerate() {
            *lost = file.u64(offset_of!(Header, lost) + index * 8);
        }

        let extents = file.extents()?;
        dump.inexact |= file.lacks_amounts(&extents);
        dump.read_arrays(&file, &extents)?;
        dump.read_log(&file, &extents)?;
        if let Some(bytes) = file.blob(BlobKind::Timeline)? {
            dump.timeline = Timeline::decode(bytes).ok_or(file.corrupt_blob(BlobKind::Timeline))?;
        }
        if let Some(bytes) = file.blob(BlobKind::Census)? {
            dump.census = Some(Census::decode(bytes).ok_or(file.corrupt_blob(BlobKind::Census))?);
        }
        if let Some(bytes) = file.blob(BlobKind::FinalCensus)? {
            dump.final_census =
                Some(Census::decode(bytes).ok_or(file.corrupt_blob(BlobKind::FinalCensus))?);
        }
        dump.heap = file.heap()?;
        dump.peak_may_be_last();
        Ok(dump)
    }

    /// The writer notes what was live at the peak when memory falls again. Where it never fell, or
    /// fell with the teardown alone, more is live now, or was at the last moment.
    fn peak_may_be_last(&mut self) {
        let now = self.heartbeat_ns.max(self.end.as_ref().map_or(0, |end| end.at_ns));
        self.peak_unless_less(self.final_ns, |site| site.last);
        self.peak_unless_less(Some(now), |site| site.totals.live());
        let noted = sum(&self.sites, |site| site.peak);
        self.peak_seen = self.peak_seen.max(noted);
        // Of a moment that was not noted there is nothing to say but the height.
        if noted < self.peak_seen - self.peak_seen / 20 {
            self.peak_ns = None;
        }
    }

    fn peak_unless_less(&mut self, at_ns: Option<u64>, live: fn(&Site) -> Amount) {
        if at_ns.is_some() && sum(&self.sites, live) > sum(&self.sites, |site| site.peak) {
            self.peak_ns = at_ns;
            self.sites.iter_mut().for_each(|site| site.peak = live(site));
        }
    }

    fn modules_known(&self) -> u32 {
        self.modules.last().map_or(0, |module| module.loaded.id.saturating_add(1))
    }

    fn read_arrays(&mut self, file: &File, extents: &[Piece]) -> Result<(), Error> {
        let count = file.u32(offset_of!(Header, site_count)) as usize;
        let peak_bank = file.u32(offset_of!(Header, peak_bank));
        if peak_bank > 2 {
            return Err(file.corrupt("the peak", offset_of!(Header, peak_bank)));
        }
        if peak_bank > 0 {
            let at = offset_of!(Header, peak_ns) + (peak_bank as usize - 1) * 8;
            self.peak_ns = Some(file.u64(at));
        }
        let numbers = numbers(file, extents)?;
        if count > numbers.len() {
            return Err(file.corrupt("the number of sites", offset_of!(Header, site_count)));
        }
        let site = |one: &SiteNumbers| Site {
            stack: None,
            totals: one.totals,
            peak: one.peak,
            last: one.last,
        };
        self.sites.extend(numbers.iter().take(count).map(site));
        Ok(())
    }

    fn read_log(&mut self, file: &File, extents: &[Piece]) -> Result<(), Error> {
        let log = file.log(extents)?.0.concat();
        let bad = |rest: &[u8]| Error::Corrupt {
            what: "a record of the log, counted from its start,",
            offset: (log.len() - rest.len()) as u64,
        };
        let mut rest = log.as_slice();
        let mut after = rest;
        while let Some(batch) = record::read_batch(&mut after) {
            let mut records = batch.map_err(|record::Damaged| bad(rest))?;
            let mut context = record::Context::new();
            loop {
                match record::read(&mut records, &mut context) {
                    Step::End => break,
                    Step::Bad => return Err(bad(rest)),
                    Step::Record(None) => {}
                    Step::Record(Some(record)) => self.take(record).ok_or_else(|| bad(rest))?,
                }
            }
            rest = after;
        }
        Ok(())
    }

    /// Ids are given in order. A definition whose room could not be had is missing, and the log goes
    /// on with the next one that found room: a gap is no damage.
    fn take(&mut self, record: Record) -> Option<()> {
        match record {
            Record::Process(process) => self.process = process,
            Record::Text { id, text } => place(&mut self.texts, id, text, self.file_len),
            Record::Code(code) => place(&mut self.codes, code.id, code, self.file_len),
            Record::Module(module) => {
                // They come in order; where one is missing, the file could not grow when it came.
                if module.id < self.modules_known() {
                    return None;
                }
                self.modules.push(Module { loaded: module, unloaded_ns: None });
            }
            Record::Unload { id, at_ns } => {
                let at = self.modules.binary_search_by_key(&id, |module| module.loaded.id);
                if let Some(module) = at.ok().and_then(|at| self.modules.get_mut(at)) {
                    module.unloaded_ns = Some(at_ns);
                }
            }
            Record::Path { id, truncated, pcs } => {
                let path = Path { truncated, pcs: pcs.into() };
                place(&mut self.paths, id, path, self.file_len);
            }
            Record::Site { id, origin, truncated, path, frames } => {
                let modules_known = self.modules_known();
                let truncated = truncated || self.path(path).is_some_and(|path| path.truncated);
                // A site may be defined in the log before the header counts it; it has no counters yet.
                if let Some(site) = self.sites.get_mut(id as usize) {
                    let innermost = self.frames.add(&frames, modules_known)?;
                    site.stack = Some(Stack { origin, truncated, modules_known, path, innermost });
                }
            }
            Record::Note { text } => {
                if self.notes.len() < MOST_NOTES && !self.notes.contains(&text) {
                    self.notes.push(text);
                }
            }
            Record::Mark { at_ns, label } => self.marks.push((at_ns, label)),
        }
        Some(())
    }
}

/// The numbers of all sites: the blob of a packed dump, or else what stands in the arrays.
fn numbers(file: &File, extents: &[Piece]) -> Result<Vec<SiteNumbers>, Error> {
    if let Some(bytes) = file.blob(BlobKind::Numbers)? {
        let numbers = Numbers::decode(bytes).ok_or(file.corrupt_blob(BlobKind::Numbers))?;
        return Ok(numbers.sites);
    }
    let arrays = Arrays::new(file, extents)?;
    Ok(arrays.numbers().collect())
}

/// More notes than a writer has to say are left out.
const MOST_NOTES: usize = 1000;

/// What comes this far beyond the last one is passed over, and what more comes after gaps than a file of so
/// many bytes can have lost: a few bytes of the file shall not ask for gigabytes.
const LARGEST_GAP: usize = 1 << 16;

fn place<T>(list: &mut Vec<Option<T>>, id: u32, value: T, file_len: u64) {
    let id = id as usize;
    let most = usize::try_from(file_len).unwrap_or(usize::MAX).saturating_add(LARGEST_GAP);
    if id >= list.len() && id <= list.len() + LARGEST_GAP && id < most {
        list.resize_with(id + 1, || None);
    }
    if let Some(place) = list.get_mut(id) {
        *place = Some(value);
    }
}

#[cfg(test)]
#[test]
fn gaps_take_no_more_room_than_the_file_may_ask_for() {
    let mut list = Vec::new();
    for at in 0..1000u32 {
        place(&mut list, at * (LARGEST_GAP as u32 + 1), at, 10_000);
    }
    assert_eq!(list.len(), LARGEST_GAP + 2);
    // The next ones are still told from each other.
    place(&mut list, 7, 1, 10_000);
    assert_eq!((list.len(), list.get(7)), (LARGEST_GAP + 2, Some(&Some(1))));
}

fn sum(sites: &[Site], of: impl Fn(&Site) -> Amount) -> u64 {
    sites.iter().fold(0, |sum, site| sum.saturating_add(of(site).bytes))
}
