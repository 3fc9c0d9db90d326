//! Reading a recording: segments in their order, frames in theirs, and how the recording ends. Every byte is doubted.

use std::fs::File;
use std::io::{BufReader, Error, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytemuck::Zeroable;
use ringlane_layout::limits::RECORD_BYTES;
use ringlane_layout::record::RecordBytes;

use super::first_page::{FirstPage, first_page, is_still};
use super::search::{Found, search};
use super::voids::{VoidRange, voids};
use super::{
    FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, FrameKind, PAYLOAD_BYTES_MAX, SegmentHeader, frame_crc, is_readable, segment_name,
};

/// What to do about a damaged recording.
pub const WAY_OUT: &str =
    "restore the file from a copy, begin a new journal directory, or see what `ringlane journal salvage` would have to drop";

/// Most lists of a directory that changes while it is opened.
const LISTS_MAX: usize = 16;

/// One whole, checked frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// What the records are.
    pub kind: FrameKind,
    /// Semantic version of the kernels that computed its results.
    pub engine_version: u32,
    /// The records.
    pub records: &'a [RecordBytes],
    /// Which of them are void, ascending; others may be named too.
    pub voids: &'a [VoidRange],
}

impl Frame<'_> {
    /// Whether one of its records is void.
    #[must_use]
    pub fn has_voids(&self) -> bool {
        let (first, count) = (self.header.first_sequence, self.records.len() as u64);
        self.voids.iter().any(|void| void.first < first + count && first <= void.last)
    }
}

/// How a recording ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEnd {
    /// Nothing was begun behind the last frame. [`Reader::is_closed`] says whether that is where it ended.
    Clean,
    /// The bytes that follow the last whole frame are not a frame, and no whole frame is behind them.
    Torn {
        /// File that holds them.
        segment: PathBuf,
        /// Where they begin, bytes.
        offset: u64,
        /// What is wrong with them.
        why: String,
    },
}

/// The segments of a journal directory, ascending; or the one file that `path` names.
pub fn list_segments(path: &Path) -> Result<Vec<(u64, PathBuf)>, String> {
    let index_of = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".ringlane")?.parse::<u64>().ok();
    let say = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    if !std::fs::metadata(path).map_err(|error| say(&error))?.is_dir() {
        return Ok(vec![(index_of(path).unwrap_or(0), path.to_owned())]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| say(&error))?;
    let mut found: Vec<_> = entries.flatten().filter_map(|entry| Some((index_of(&entry.path())?, entry.path()))).collect();
    found.sort();
    Ok(found)
}

/// Reads frames one by one.
#[derive(Debug)]
pub struct Reader {
    /// None when a single segment is read.
    directory: Option<PathBuf>,
    segments: std::vec::IntoIter<(u64, PathBuf)>,
    current: Option<OpenSegment>,
    payload: Box<[RecordBytes]>,
    end: Option<JournalEnd>,
    /// Header of the segment that was opened last.
    segment_header: SegmentHeader,
    /// Sequence number that is due; none before the first segment.
    next_sequence: Option<u64>,
    /// Whether the segment that was opened last said that it goes on in the next.
    goes_on: bool,
    /// Sequence number from which on the segment behind this one, whose disk failed, holds the frames again.
    held_again: Option<u64>,
    /// Whether the last segment has an end mark.
    is_closed: bool,
    /// Hash of all outputs, as its end mark says.
    closing_hash: Option<u64>,
    /// Where the last frame began, bytes.
    frame_offset: u64,
    /// What later segments say of records that are void.
    voids: Vec<VoidRange>,
}

#[derive(Debug)]
struct OpenSegment {
    path: PathBuf,
    file: BufReader<File>,
    offset: u64,
}

enum Step {
    Frame(FrameHeader, FrameKind, usize),
    SegmentEnd,
    Stop(u64),
    JournalEnd(JournalEnd),
}

/// What stands where a frame is due.
enum Look {
    Frame(FrameHeader, usize),
    /// Nothing, or zeros of less than a header.
    FileEnd,
    /// Other bytes of less than a header: the file was cut off.
    Cut,
    /// Zeros, or why it is no frame.
    Bad(Option<String>),
}

impl Reader {
    /// Opens a journal directory or a single segment. A missing, empty or foreign recording is an error in words.
    pub fn open(path: &Path) -> Result<Self, String> {
        Self::open_listed(path, path, 0)
    }

    /// Opens what a directory lists from segment `from` on. A sidecar that runs may take its oldest segments away between the
    /// list and the look; then there is another list.
    fn open_listed(path: &Path, directory: &Path, from: u64) -> Result<Self, String> {
        for attempt in 1.. {
            let mut segments = list_segments(directory)?;
            segments.retain(|(index, _)| *index >= from);
            let first = segments.first().map(|(_, path)| path.clone());
            match Self::open_segments(path, directory.is_dir().then(|| directory.to_owned()), segments) {
                Err(_) if attempt < LISTS_MAX && first.is_some_and(|first| !first.exists()) => {}
                opened => return opened,
            }
        }
        unreachable!("the last attempt returns")
    }

    /// Opens a segment and those that follow it in its directory.
    pub fn open_from(path: &Path) -> Result<Self, String> {
        let directory = path.parent().filter(|_| path.is_file()).map(Path::to_owned);
        let Some(directory) = directory else { return Self::open(path) };
        let directory = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory };
        let name = path.file_name().unwrap_or_default();
        match list_segments(&directory)?.into_iter().find(|(_, segment)| segment.file_name() == Some(name)) {
            Some((index, _)) => Self::open_listed(path, &directory, index),
            None => Self::open(path),
        }
    }

    /// Opens what a directory holds behind a snapshot: from `offset` in segment `index` on, where `sequence` is due.
    pub fn open_behind(directory: &Path, index: u64, offset: u64, sequence: u64) -> Result<Self, String> {
        let mut segments = list_segments(directory)?;
        segments.retain(|(segment, _)| *segment >= index);
        if segments.first().is_none_or(|(first, _)| *first != index) {
            let name = segment_name(index);
            return Err(format!("{}: {name} is missing, in which the journal goes on behind the snapshot; {WAY_OUT}", directory.display()));
        }
        let mut reader = Self::open_segments(directory, Some(directory.to_owned()), segments)?;
        if reader.segment_header.index == index {
            reader.start_at(offset, sequence)?;
        }
        Ok(reader)
    }

    /// Opens these segments and none that follow them; `start` is where a snapshot lets the first of them begin: its offset
    /// and sequence number.
    pub fn open_run(directory: &Path, segments: Vec<(u64, PathBuf)>, start: Option<(u64, u64)>) -> Result<Self, String> {
        let first = segments.first().map_or(0, |(index, _)| *index);
        let mut reader = Self::open_segments(directory, None, segments)?;
        if let Some((offset, sequence)) = start.filter(|_| reader.segment_header.index == first) {
            reader.start_at(offset, sequence)?;
        }
        Ok(reader)
    }

    /// Goes on at this place of the segment that was opened.
    fn start_at(&mut self, offset: u64, sequence: u64) -> Result<(), String> {
        let Some(segment) = self.current.as_mut() else { return Ok(()) };
        segment.file.seek(SeekFrom::Start(offset)).map_err(|error| format!("cannot read {}: {error}", segment.path.display()))?;
        segment.offset = offset;
        self.next_sequence = Some(sequence);
        Ok(())
    }

    fn open_segments(path: &Path, directory: Option<PathBuf>, segments: Vec<(u64, PathBuf)>) -> Result<Self, String> {
        if segments.is_empty() {
            return Err(format!("{} holds no recording: there is no *.ringlane file in it", path.display()));
        }
        if let Some(pair) = segments.windows(2).find(|pair| pair[1].0.wrapping_sub(pair[0].0) != 1) {
            return Err(format!("segment {} is missing behind {}", pair[0].0.wrapping_add(1), pair[0].1.display()));
        }
        let voids = voids(&segments);
        let mut reader = Self {
            directory,
            segments: segments.into_iter(),
            current: None,
            payload: vec![RecordBytes::zeroed(); PAYLOAD_BYTES_MAX / RECORD_BYTES].into(),
            end: None,
            segment_header: SegmentHeader::zeroed(),
            next_sequence: None,
            goes_on: false,
            held_again: None,
            is_closed: false,
            closing_hash: None,
            frame_offset: 0,
            voids,
        };
        reader.next_segment(JournalEnd::Clean)?;
        Ok(reader)
    }

    /// Header of the segment that is being read.
    #[must_use]
    pub fn segment_header(&self) -> &SegmentHeader {
        &self.segment_header
    }

    /// Whether the segment that was read last says that another follows it.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.goes_on
    }

    /// Records that later segments made void, ascending.
    #[must_use]
    pub fn voids(&self) -> &[VoidRange] {
        &self.voids
    }

    /// Takes these records as void too, as a start does that is about to say so.
    pub fn take_as_void(&mut self, range: VoidRange) {
        self.voids.push(range);
        self.voids.sort_unstable();
    }

    /// Where the frame stands that was given last: the number of its segment, and the offset in it, bytes.
    #[must_use]
    pub fn frame_place(&self) -> (u64, u64) {
        (self.segment_header.index, self.frame_offset)
    }

    /// How the recording ended; none before [`Reader::next_frame`] gave none.
    #[must_use]
    pub fn end(&self) -> Option<&JournalEnd> {
        self.end.as_ref()
    }

    /// Whether the sidecar that wrote the end of the recording ended it by a mark. If not, it was killed or still runs, or the
    /// file was cut off between two frames.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Hash of all outputs up to the recording's end, as its end mark says; none without one.
    #[must_use]
    pub fn closing_hash(&self) -> Option<u64> {
        self.closing_hash
    }

    /// Where the next frame is looked for: the segment's file and the offset in it, bytes.
    #[must_use]
    pub fn place(&self) -> Option<(&Path, u64)> {
        self.current.as_ref().map(|segment| (segment.path.as_path(), segment.offset))
    }

    /// The next whole frame; none at the end. An error is damage that is not a torn end.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, String> {
        let mut is_second_look = false;
        loop {
            if self.end.is_some() {
                return Ok(None);
            }
            match self.step()? {
                Step::Frame(header, kind, count) => {
                    return Ok(Some(Frame {
                        header,
                        kind,
                        engine_version: self.segment_header.engine_version,
                        records: &self.payload[..count],
                        voids: &self.voids,
                    }));
                }
                Step::SegmentEnd => {
                    self.goes_on = true;
                    self.expect_segment()?;
                    self.next_segment(JournalEnd::Clean)?;
                }
                Step::Stop(output_hash) => {
                    (self.is_closed, self.closing_hash) = (true, Some(output_hash));
                    self.next_segment(JournalEnd::Clean)?;
                }
                // A start opens a new segment, so an older one may end without an END frame.
                Step::JournalEnd(end) => {
                    let (segments, header) = (self.segments.clone(), self.segment_header);
                    let ended = self.current.take();
                    match self.next_segment(end) {
                        // A sidecar that runs has gone on, here and then in the next segment, between the look at one and the other.
                        Err(_) if !is_second_look && is_of_epoch(segments.as_slice().first(), header.epoch) => {
                            is_second_look = true;
                            (self.segments, self.current) = (segments, ended);
                            self.look_again()?;
                        }
                        went_on => went_on?,
                    }
                }
            }
        }
    }

    /// Forgets what was read ahead.
    fn look_again(&mut self) -> Result<(), String> {
        let Some(segment) = &mut self.current else { return Ok(()) };
        let sought = segment.file.seek(SeekFrom::Start(segment.offset));
        sought.map(drop).map_err(|error| format!("cannot read {}: {error}", segment.path.display()))
    }

    /// The next segment was there before this one ended. It may have been made since the directory was listed.
    fn expect_segment(&mut self) -> Result<(), String> {
        let Some(directory) = self.directory.as_ref().filter(|_| self.segments.len() == 0) else { return Ok(()) };
        let index = self.segment_header.index.saturating_add(1);
        let path = directory.join(segment_name(index));
        if !path.exists() {
            return Err(format!("segment {index} is missing: the recording goes on in {}; {WAY_OUT}", path.display()));
        }
        self.segments = vec![(index, path)].into_iter();
        Ok(())
    }

    /// Goes on in the next segment that was used; the recording ends with `end` when there is none.
    fn next_segment(&mut self, mut end: JournalEnd) -> Result<(), String> {
        self.current = None;
        while let Some((index, path)) = self.segments.next() {
            let file = File::open(&path).map_err(|error| match error.kind() {
                ErrorKind::NotFound => taken_away(&path),
                _ => format!("cannot read {}: {error}", path.display()),
            })?;
            let header = match first_page(&file, &path)? {
                FirstPage::Header(header) => *header,
                FirstPage::Unused => continue,
                FirstPage::Torn => {
                    end = JournalEnd::Torn { segment: path, offset: 0, why: "the segment's header is not whole".into() };
                    continue;
                }
            };
            // A file may also have become a later segment between its opening and the look at it.
            let say = |words| if path.exists() { format!("{}: {words}; {WAY_OUT}", path.display()) } else { taken_away(&path) };
            self.check_place(index, &header).map_err(say)?;
            if let JournalEnd::Torn { segment, offset, why } = &end {
                tracing::warn!(segment = %segment.display(), offset, why, "an earlier epoch ended in a torn frame, which was never acknowledged");
            }
            self.segment_header = header;
            self.next_sequence = Some(header.first_sequence);
            self.goes_on = false;
            (self.is_closed, self.closing_hash) = (false, None);
            self.held_again = self.held_again_behind();
            let mut file = BufReader::with_capacity(1 << 20, file);
            file.seek(SeekFrom::Start(FRAMES_OFFSET as u64)).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            self.current = Some(OpenSegment { path, file, offset: FRAMES_OFFSET as u64 });
            return Ok(());
        }
        self.end = Some(end);
        Ok(())
    }

    /// What the segment that follows says of this one.
    fn held_again_behind(&self) -> Option<u64> {
        // A disk that failed twice may have left a segment in between that was never begun.
        for (_, path) in self.segments.as_slice() {
            match first_page(&File::open(path).ok()?, path).ok()? {
                FirstPage::Header(next) if next.holds_again != 0 && next.epoch == self.segment_header.epoch => {
                    return Some(next.first_sequence);
                }
                FirstPage::Header(_) => return None,
                FirstPage::Unused | FirstPage::Torn => {}
            }
        }
        None
    }

    /// Whether a segment of this name and header may follow what was read so far.
    fn check_place(&self, index: u64, header: &SegmentHeader) -> Result<(), String> {
        if index != 0 && header.index != index {
            return Err(format!("its header says that it is segment {}", header.index));
        }
        let Some(due) = self.next_sequence else { return Ok(()) };
        if header.first_sequence != due {
            return Err(format!(
                "it begins at sequence {} where {due} was expected, so records are missing before it",
                header.first_sequence
            ));
        }
        let last = self.segment_header.epoch;
        if header.epoch < last || (header.epoch == last && !self.goes_on) {
            return Err(format!("it says epoch {} behind an end of epoch {last}", header.epoch));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Step, String> {
        let Some(segment) = &mut self.current else { return Ok(Step::JournalEnd(JournalEnd::Clean)) };
        let (offset, due, seed) = (segment.offset, self.next_sequence.unwrap_or(1), self.segment_header.frame_seed);
        if self.held_again == Some(due) {
            return Ok(Step::SegmentEnd);
        }
        let at = format!("{} at offset {offset}", segment.path.display());
        let say = |error: Error| format!("cannot read {at}: {error}");
        loop {
            let mut bytes = [0; FRAME_HEADER_BYTES];
            let why = match segment.look(&mut bytes, &mut self.payload, seed).map_err(say)? {
                Look::FileEnd => return Ok(Step::JournalEnd(JournalEnd::Clean)),
                Look::Cut => {
                    let why = "the file ends inside a frame's header".into();
                    return Ok(Step::JournalEnd(JournalEnd::Torn { segment: segment.path.clone(), offset, why }));
                }
                Look::Frame(header, length) => {
                    let kind = check_frame(&header, length / RECORD_BYTES, due).map_err(|words| format!("{at}: {words}"))?;
                    self.next_sequence = Some(due + (length / RECORD_BYTES) as u64);
                    self.frame_offset = offset;
                    segment.offset += (FRAME_HEADER_BYTES + length) as u64;
                    return Ok(match kind {
                        FrameKind::End => Step::SegmentEnd,
                        FrameKind::Stop => Step::Stop(header.output_hash),
                        kind => Step::Frame(header, kind, length / RECORD_BYTES),
                    });
                }
                Look::Bad(why) => why,
            };
            let found = search(segment.file.get_ref(), offset + FRAME_HEADER_BYTES as u64, seed, due).map_err(say)?;
            let mut now = [0; FRAME_HEADER_BYTES];
            segment.file.get_ref().read_exact_at(&mut now, offset).map_err(say)?;
            if now != bytes {
                // A sidecar is writing this segment, and has finished the frame meanwhile.
                segment.file.seek(SeekFrom::Start(offset)).map_err(say)?;
                continue;
            }
            if !is_still(segment.file.get_ref(), &self.segment_header).map_err(say)? {
                return Err(format!("{at}: the segment was used again while it was read; begin anew with what is there now"));
            }
            // A recycled segment has other bytes behind its last frame, and zeros where the next would begin.
            let is_end = why.is_none() && (found == Found::Nothing || self.segment_header.format_version > 1);
            let why = why.unwrap_or_else(|| "zeros stand where a frame was begun".into());
            return match found {
                Found::Frame(place) => Err(format!("{at}: {why}, and a whole frame follows at offset {place}: this is damage; {WAY_OUT}")),
                _ if is_end => Ok(Step::JournalEnd(JournalEnd::Clean)),
                _ => Ok(Step::JournalEnd(JournalEnd::Torn { segment: segment.path.clone(), offset, why })),
            };
        }
    }
}

fn taken_away(path: &Path) -> String {
    format!("{} was taken away while the recording was read; begin anew with what is there now", path.display())
}

/// Whether a segment was begun in this epoch.
fn is_of_epoch(segment: Option<&(u64, PathBuf)>, epoch: u64) -> bool {
    let page = segment.and_then(|(_, path)| first_page(&File::open(path).ok()?, path).ok());
    matches!(page, Some(FirstPage::Header(next)) if next.epoch == epoch)
}

impl OpenSegment {
    /// Reads what stands at the place that was reached.
    fn look(&mut self, bytes: &mut [u8; FRAME_HEADER_BYTES], payload: &mut [RecordBytes], seed: u32) -> Result<Look, Error> {
        match self.file.read_exact(bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let mut rest = [0; FRAME_HEADER_BYTES];
                // Frames and segments are multiples of 64 bytes, so part of a header is never an end.
                let left = self.file.get_ref().read_at(&mut rest, self.offset)?;
                return Ok(if left == 0 { Look::FileEnd } else { Look::Cut });
            }
            Err(error) => return Err(error),
        }
        if *bytes == [0; FRAME_HEADER_BYTES] {
            return Ok(Look::Bad(None));
        }
        let header: FrameHeader = bytemuck::pod_read_unaligned(bytes);
        let length = header.payload_bytes as usize;
        if length > PAYLOAD_BYTES_MAX || !length.is_multiple_of(RECORD_BYTES) {
            return Ok(Look::Bad(Some(format!("a frame cannot hold {length} bytes"))));
        }
        let payload = &mut bytemuck::cast_slice_mut(payload)[..length];
        match self.file.read_exact(payload) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Look::Bad(Some("the file ends inside a frame".into()))),
            Err(error) => return Err(error),
        }
        if frame_crc(seed, &header, payload) != header.crc32c {
            return Ok(Look::Bad(Some("the checksum does not match".into())));
        }
        Ok(Look::Frame(header, length))
    }
}

/// Whether a whole frame is what is due.
fn check_frame(header: &FrameHeader, records: usize, due: u64) -> Result<FrameKind, String> {
    let kind = FrameKind::try_from(header.kind).map_err(|_| format!("frames of kind {} are from a newer ringlane", header.kind))?;
    if header.first_sequence != due || due.checked_add(records as u64).is_none() {
        return Err(format!("a frame begins at sequence {} where {due} was expected; {WAY_OUT}", header.first_sequence));
    }
    if !is_readable(kind, header.schema_hash) {
        return Err("its records have another schema than this build's; read it with the ringlane that wrote it".into());
    }
    Ok(kind)
}
