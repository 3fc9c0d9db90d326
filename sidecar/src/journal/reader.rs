//! Reading a recording: segments in their order, frames in theirs, and how the recording ends. Every byte is doubted.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use bytemuck::Zeroable;
use ringlane_layout::limits::RECORD_BYTES;
use ringlane_layout::record::RecordBytes;

use super::{
    FORMAT_VERSION, FRAME_HEADER_BYTES, FRAMES_OFFSET, FrameHeader, FrameKind, PAYLOAD_BYTES_MAX, SEGMENT_MAGIC, SegmentHeader, frame_crc,
};

/// One whole, checked frame.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// What the records are.
    pub kind: FrameKind,
    /// Semantic version of the kernels that computed its results.
    pub engine_version: u32,
    /// The records.
    pub records: &'a [RecordBytes],
}

/// How a recording ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JournalEnd {
    /// Zeros follow the last frame, or the file ends behind it.
    Clean,
    /// The bytes that follow the last whole frame are not a frame.
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
    segments: std::vec::IntoIter<(u64, PathBuf)>,
    current: Option<OpenSegment>,
    payload: Box<[RecordBytes]>,
    end: Option<JournalEnd>,
    /// Header of the segment that was opened last.
    segment_header: SegmentHeader,
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
    JournalEnd(JournalEnd),
}

impl Reader {
    /// Opens a journal directory or a single segment. A missing, empty or foreign recording is an error in words.
    pub fn open(path: &Path) -> Result<Self, String> {
        let segments = list_segments(path)?;
        if segments.is_empty() {
            return Err(format!("{} holds no recording: there is no *.ringlane file in it", path.display()));
        }
        if let Some(pair) = segments.windows(2).find(|pair| pair[1].0.wrapping_sub(pair[0].0) != 1) {
            return Err(format!("segment {} is missing behind {}", pair[0].0.wrapping_add(1), pair[0].1.display()));
        }
        let mut reader = Self {
            segments: segments.into_iter(),
            current: None,
            payload: vec![RecordBytes::zeroed(); PAYLOAD_BYTES_MAX / RECORD_BYTES].into(),
            end: None,
            segment_header: SegmentHeader::zeroed(),
        };
        reader.next_segment()?;
        Ok(reader)
    }

    /// Header of the segment that is being read.
    #[must_use]
    pub fn segment_header(&self) -> &SegmentHeader {
        &self.segment_header
    }

    /// How the recording ended; none before [`Reader::next_frame`] gave none.
    #[must_use]
    pub fn end(&self) -> Option<&JournalEnd> {
        self.end.as_ref()
    }

    /// The next whole frame; none at the end. An error is damage that is not a torn end.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, String> {
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
                    }));
                }
                Step::SegmentEnd => self.next_segment()?,
                // A clean start opens a new segment, so an older one may end without an END frame.
                Step::JournalEnd(end) if self.segments.len() > 0 => {
                    if let JournalEnd::Torn { segment, offset, why } = &end {
                        tracing::warn!(segment = %segment.display(), offset, why, "an earlier epoch ended in a torn frame, which was never acknowledged");
                    }
                    self.next_segment()?;
                }
                Step::JournalEnd(end) => self.end = Some(end),
            }
        }
    }

    fn next_segment(&mut self) -> Result<(), String> {
        let Some((_, path)) = self.segments.next() else {
            self.end = Some(JournalEnd::Clean);
            return Ok(());
        };
        let say = |words: &dyn std::fmt::Display| format!("{} is not a recording: {words}", path.display());
        let mut file = BufReader::with_capacity(1 << 20, File::open(&path).map_err(|error| say(&error))?);
        let mut page = [0; FRAMES_OFFSET];
        file.read_exact(&mut page).map_err(|_| say(&"it is shorter than a segment's first page"))?;
        let header: SegmentHeader = bytemuck::pod_read_unaligned(&page[..size_of::<SegmentHeader>()]);
        if header.magic == 0 && page.iter().all(|byte| *byte == 0) {
            // Made ahead of need and never used; a later start goes on behind it.
            self.current = None;
            return Ok(());
        }
        if header.magic != SEGMENT_MAGIC {
            return Err(say(&"its first bytes are not those of a Ringlane journal"));
        }
        if header.format_version > FORMAT_VERSION {
            return Err(say(&format!(
                "its format is version {}, and this build reads up to {FORMAT_VERSION}; use a newer ringlane",
                header.format_version
            )));
        }
        self.segment_header = header;
        self.current = Some(OpenSegment { path, file, offset: FRAMES_OFFSET as u64 });
        Ok(())
    }

    fn step(&mut self) -> Result<Step, String> {
        let Some(segment) = &mut self.current else { return Ok(Step::JournalEnd(JournalEnd::Clean)) };
        let offset = segment.offset;
        let torn =
            |why: String, segment: &OpenSegment| Ok(Step::JournalEnd(JournalEnd::Torn { segment: segment.path.clone(), offset, why }));
        let mut bytes = [0; FRAME_HEADER_BYTES];
        match segment.file.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(Step::JournalEnd(JournalEnd::Clean)),
            Err(error) => return Err(format!("cannot read {}: {error}", segment.path.display())),
        }
        let header: FrameHeader = bytemuck::pod_read_unaligned(&bytes);
        if bytes == [0; FRAME_HEADER_BYTES] {
            return Ok(Step::JournalEnd(JournalEnd::Clean));
        }
        let length = header.payload_bytes as usize;
        if length > PAYLOAD_BYTES_MAX || !length.is_multiple_of(RECORD_BYTES) {
            return torn(format!("a frame cannot hold {length} bytes"), segment);
        }
        let payload = &mut bytemuck::cast_slice_mut(&mut self.payload)[..length];
        match segment.file.read_exact(payload) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return torn("the file ends inside a frame".into(), segment),
            Err(error) => return Err(format!("cannot read {}: {error}", segment.path.display())),
        }
        if frame_crc(&header, payload) != header.crc32c {
            return torn("the checksum does not match".into(), segment);
        }
        let Ok(kind) = FrameKind::try_from(header.kind) else {
            return Err(format!("{} at offset {offset}: frames of kind {} are from a newer ringlane", segment.path.display(), header.kind));
        };
        segment.offset += (FRAME_HEADER_BYTES + length) as u64;
        Ok(match kind {
            FrameKind::End => Step::SegmentEnd,
            kind => Step::Frame(header, kind, length / RECORD_BYTES),
        })
    }
}
