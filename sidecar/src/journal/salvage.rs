//! What can be saved of a journal that is damaged in its middle: everything before the damage. What stands behind it builds on
//! records that are gone, so it is dropped, and only when that is confirmed; the files are kept beside under other names.

use std::fs::File;
use std::io::Error;
use std::path::{Path, PathBuf};

use ringlane_layout::limits::RECORD_BYTES;

use super::reader::WAY_OUT;
use super::search::read_at;
use super::{
    FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, PAYLOAD_BYTES_MAX, RESERVE_MAGIC, RESERVE_OFFSET, Reader, SegmentReserve, Snapshot,
    frame_crc, list_segments, list_snapshots, reserve_crc,
};
use crate::world;

/// Ending of the files that are kept beside.
const ENDING: &str = ".damaged";
/// Bytes that are looked at together; more than a frame.
const WINDOW_BYTES: usize = 4 << 20;

/// A journal from which a start cannot go on, and what would let it.
#[derive(Debug)]
pub struct Damage {
    /// What is wrong, and where.
    pub words: String,
    /// Last sequence number before it; what stands up to there is kept.
    pub kept_upto: u64,
    /// The segment that is cut, and the offset behind its last good frame, bytes.
    pub cut: Option<(PathBuf, u64)>,
    /// Segments that are dropped whole.
    pub segments: Vec<PathBuf>,
    /// Snapshots that are damaged too.
    pub snapshots: Vec<PathBuf>,
    /// What is still whole of that which is dropped.
    pub lost: Lost,
}

/// Whole frames behind the damage.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many frames.
    pub frames: u64,
    /// How many records are in them.
    pub records: u64,
    /// Highest sequence number of these.
    pub last_sequence: u64,
    /// When the first and the last were written, nanoseconds since 1970.
    pub times_ns: Option<(u64, u64)>,
}

/// Reads what a start would read: none when it is whole. An error is something else than damage, and nothing here helps.
pub fn examine(directory: &Path) -> Result<Option<Damage>, String> {
    let mut segments = list_segments(directory)?;
    let (mut snapshot, mut snapshots) = (None, Vec::new());
    for (_, path) in list_snapshots(directory) {
        match Snapshot::read(&path) {
            Ok(good) => {
                snapshot = Some(good.header);
                break;
            }
            Err(_) => snapshots.push(path),
        }
    }
    if let Some(header) = &snapshot {
        segments.retain(|(index, _)| *index >= header.segment_index);
    }
    let (first, start) = match &snapshot {
        Some(header) => (header.segment_index, Some((header.segment_offset, header.sequence + 1))),
        None => (segments.first().map_or(1, |(index, _)| *index), None),
    };
    let run: Vec<_> = (first..).zip(&segments).take_while(|(due, (index, _))| due == index).map(|(_, segment)| segment.clone()).collect();
    let mut kept_upto = snapshot.map_or(0, |header| header.sequence);
    if run.is_empty() {
        return Err(format!("{}: segment {first} is missing, in which it begins or goes on behind its snapshot", directory.display()));
    }
    let missing = || format!("segment {} is missing", first + run.len() as u64);
    let (words, cut, behind) = match Reader::open_run(directory, run.clone(), start) {
        Err(words) => (words, None, 0),
        Ok(mut reader) => match read_on(&mut reader, &mut kept_upto) {
            Ok(()) if run.len() == segments.len() => return Ok(None),
            Ok(()) => (missing(), end_mark(&reader, &run), run.len()),
            Err(words) => {
                let cut = reader.place().map(|(path, offset)| (path.to_owned(), offset)).or_else(|| end_mark(&reader, &run));
                // Without a place, it is the segment behind the one that was read last.
                let behind = (reader.segment_header().index - first) as usize + 1;
                (words, cut, behind)
            }
        },
    };
    // What is only of another version is not damaged.
    if !words.contains(WAY_OUT) && !words.contains("its first bytes are not") && !words.ends_with("is missing") {
        return Err(words);
    }
    let segments: Vec<PathBuf> = segments.into_iter().skip(behind).map(|(_, path)| path).collect();
    let mut lost = Lost::default();
    let parts = cut.iter().map(|(path, offset)| (path, *offset)).chain(segments.iter().map(|path| (path, FRAMES_OFFSET as u64)));
    for (path, offset) in parts {
        lost.add(path, offset).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    }
    Ok(Some(Damage { words, kept_upto, cut, segments, snapshots, lost }))
}

/// The mark that says that another segment follows the one that was read last: where none will, it goes too.
fn end_mark(reader: &Reader, run: &[(u64, PathBuf)]) -> Option<(PathBuf, u64)> {
    let (index, offset) = reader.frame_place();
    let (_, path) = run.iter().find(|(found, _)| *found == index).filter(|_| reader.goes_on())?;
    Some((path.clone(), offset))
}

fn read_on(reader: &mut Reader, upto: &mut u64) -> Result<(), String> {
    while let Some(frame) = reader.next_frame()? {
        *upto = frame.header.first_sequence + frame.records.len() as u64 - 1;
    }
    Ok(())
}

/// Drops what is damaged, in a directory that this process has locked; the names under which it is kept beside.
pub fn drop_damaged(directory: &Path, damage: &Damage) -> Result<Vec<PathBuf>, String> {
    let beside = |path: &Path| PathBuf::from(format!("{}{ENDING}", path.display()));
    let taken = damage.cut.iter().map(|(path, _)| path).chain(&damage.segments).chain(&damage.snapshots).map(|path| beside(path));
    if let Some(taken) = taken.into_iter().find(|path| path.exists()) {
        return Err(format!("{} is there already; take it away first", taken.display()));
    }
    let mut kept = Vec::new();
    // The last first: whatever ends this, what is left is a journal whose end is missing, and can be salvaged again.
    for path in damage.snapshots.iter().chain(damage.segments.iter().rev()) {
        std::fs::rename(path, beside(path)).map_err(|error| format!("cannot rename {}: {error}", path.display()))?;
        kept.push(beside(path));
    }
    if let Some((path, offset)) = &damage.cut {
        let say = |error: Error| format!("cannot cut {}: {error}", path.display());
        std::fs::copy(path, beside(path)).map_err(say)?;
        File::open(beside(path)).and_then(|file| file.sync_all()).map_err(say)?;
        let file = File::options().write(true).open(path).map_err(say)?;
        file.set_len(*offset).and_then(|()| file.sync_all()).map_err(say)?;
        kept.push(beside(path));
    }
    world::sync_directory(directory).map_err(|error| format!("cannot sync {}: {error}", directory.display()))?;
    Ok(kept)
}

impl Lost {
    /// Counts the whole frames of a segment from an offset on.
    fn add(&mut self, path: &Path, mut offset: u64) -> Result<(), Error> {
        let file = File::open(path)?;
        let mut reserve = [0; size_of::<SegmentReserve>()];
        let len = read_at(&file, &mut reserve, RESERVE_OFFSET as u64)?;
        let reserve: SegmentReserve = bytemuck::pod_read_unaligned(&reserve);
        if len < size_of::<SegmentReserve>() || reserve.magic != RESERVE_MAGIC || reserve_crc(&reserve) != reserve.crc32c {
            return Ok(()); // its frames cannot be told from what stood there before
        }
        let (mut window, mut begin, mut end) = (vec![0; WINDOW_BYTES], offset, offset);
        loop {
            if offset + (FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX) as u64 > end {
                begin = offset;
                end = begin + read_at(&file, &mut window, begin)? as u64;
            }
            let left = &window[(offset - begin) as usize..(end - begin) as usize];
            let Some((header, rest)) = left.split_first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(()) };
            let header: FrameHeader = bytemuck::pod_read_unaligned(header);
            let length = header.payload_bytes as usize;
            let payload = rest.get(..length).filter(|_| length <= PAYLOAD_BYTES_MAX && length.is_multiple_of(RECORD_BYTES));
            offset += FRAME_HEADER_BYTES as u64;
            if payload.is_some_and(|payload| frame_crc(reserve.frame_seed, &header, payload) == header.crc32c) {
                self.count(&header);
                offset += length as u64;
            }
        }
    }

    fn count(&mut self, header: &FrameHeader) {
        let records = u64::from(header.payload_bytes) / RECORD_BYTES as u64;
        if records == 0 {
            return;
        }
        self.frames += 1;
        self.records += records;
        self.last_sequence = self.last_sequence.max(header.first_sequence + records - 1);
        let first = self.times_ns.map_or(header.time_ns, |(first, _)| first);
        self.times_ns = Some((first, header.time_ns));
    }
}
