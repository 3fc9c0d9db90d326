//! Making durable what a start has found: it was read from the machine's memory, and its writer may have been killed before it
//! was on the disk, or after the disk had refused it.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, list_segments, segment_name};
use crate::world;

/// A frame of which no later one says that it was durable.
#[derive(Debug, Clone, Copy)]
struct Unsure {
    /// Number of its segment.
    index: u64,
    offset: u64,
    bytes: u64,
    /// Sequence number of its last record.
    last: u64,
}

/// The frames at the end of a journal that may not be durable: no more than two commits hold.
#[derive(Debug, Default)]
pub struct Tail {
    unsure: VecDeque<Unsure>,
    /// Number of the segment in which reading began.
    first: u64,
}

impl Tail {
    /// Nothing behind a snapshot that goes on in this segment.
    pub fn behind(first: u64) -> Self {
        Self { unsure: VecDeque::new(), first }
    }

    /// Notes a frame that was read, and where it stands: number of its segment, and offset.
    pub fn note(&mut self, header: &FrameHeader, records: usize, (index, offset): (u64, u64)) {
        while self.unsure.front().is_some_and(|frame| frame.last <= header.durable_upto) {
            self.unsure.pop_front();
        }
        let bytes = FRAME_HEADER_BYTES as u64 + u64::from(header.payload_bytes);
        self.unsure.push_back(Unsure { index, offset, bytes, last: header.first_sequence + records as u64 - 1 });
    }

    /// Makes everything that the directory holds durable, so that what is told from here on stands on it. These frames are
    /// written once more, and the first pages from theirs on: a machine whose disk refused them may take them for written, and
    /// a segment that was begun and has no frame yet may say that frames before it do not count.
    pub fn make_durable(&self, directory: &Path) -> Result<(), String> {
        let say = |error: Error| format!("cannot make the journal in {} durable: {error}", directory.display());
        for frame in &self.unsure {
            let file = writable(&directory.join(segment_name(frame.index))).map_err(say)?;
            // With what may be the segment's end mark.
            write_again(&file, frame.offset, frame.bytes + FRAME_HEADER_BYTES as u64).map_err(say)?;
        }
        let first = self.unsure.front().map_or(self.first, |frame| frame.index);
        for (index, path) in list_segments(directory)? {
            if index >= first {
                writable(&path).and_then(|file| write_again(&file, 0, FRAMES_OFFSET as u64)).map_err(say)?;
            }
            File::open(&path).and_then(|file| world::sync_data(&file)).map_err(say)?;
        }
        world::sync_directory(directory).map_err(say)
    }
}

fn writable(path: &Path) -> Result<File, Error> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// Writes what stands there.
fn write_again(file: &File, offset: u64, len: u64) -> Result<(), Error> {
    let len = len.min(file.metadata()?.len().saturating_sub(offset));
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, offset)?;
    world::write_again(file, &bytes, offset)
}
