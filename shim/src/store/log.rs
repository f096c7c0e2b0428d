//! Records are appended to the log.

use core::sync::atomic::Ordering::{Relaxed, Release};

use pyshim_dump::layout::Lost;
use pyshim_dump::record;

use super::{Failure, Store, header};

/// Whole records of the log, none of which refers to one in another batch.
pub struct Batch {
    /// As the log has it; nothing before the first record.
    pub bytes: Vec<u8>,
    /// How many records there are.
    pub count: u64,
}

impl Batch {
    /// Without records.
    pub const NONE: Batch = Batch { bytes: Vec::new(), count: 0 };

    /// For another record; begins it with room for so many bytes if this is the first.
    pub fn begun(&mut self, room: usize) -> &mut Vec<u8> {
        if self.bytes.is_empty() {
            self.bytes = record::begin_batch(room);
        }
        &mut self.bytes
    }
}

/// Where the log has no room, so many bytes of records wait until it has.
const MOST_UNWRITTEN: usize = 8 << 20;

impl Store {
    /// Appends records. What finds no room counts as lost, and is tried again with the next batch.
    pub fn append(&mut self, batch: Batch) {
        let lost = &header().lost[Lost::Definitions as usize];
        lost.fetch_add(batch.count, Relaxed);
        if self.unwritten_bytes + batch.bytes.len() > MOST_UNWRITTEN {
            return;
        }
        self.unwritten_bytes += batch.bytes.len();
        self.unwritten.push_back(batch);
        while let Some(batch) = self.unwritten.pop_front() {
            if self.write(&batch.bytes).is_err() {
                return self.unwritten.push_front(batch);
            }
            self.unwritten_bytes -= batch.bytes.len();
            lost.fetch_sub(batch.count, Relaxed);
        }
    }

    /// Writes the records, or what is left of them after it failed.
    fn write(&mut self, records: &[u8]) -> Result<(), Failure> {
        let header = header();
        let committed = header.log_len.load(Relaxed);
        let mut rest = records.get(self.copied..).unwrap_or_default();
        while !rest.is_empty() {
            let room = self.log_capacity - self.log_used;
            if room == 0 {
                self.copied = records.len() - rest.len();
                self.grow(Store::grow_log)?;
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(room));
            // SAFETY: the window has `room` writable bytes from here on, and the lock is held.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    now.as_ptr(),
                    self.log.add(self.log_used),
                    now.len(),
                );
            }
            self.log_used += now.len();
            rest = later;
        }
        self.copied = 0;
        // Only now does the reader see them.
        header.log_len.store(committed + records.len() as u64, Release);
        Ok(())
    }
}
