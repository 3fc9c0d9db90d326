//! Snapshot files: the state after one sequence number, in the journal's directory, so that a start replays only what follows.
//!
//! A snapshot has its name `<sequence>.snapshot` only when it is whole: it is written under `<sequence>.snapshot.new`, synced,
//! and renamed. It is read only when its hash is right; a start that finds the newest one damaged uses the one before.
//! ```text
//! +0     SnapshotHeader (128 bytes)
//! +128   sections, one behind the other: SectionHeader (64 bytes), then its bytes, then zeros up to a multiple of 8
//! end-64 SnapshotTrailer (64 bytes): length of the file, and XXH3-64 of everything before the trailer
//! ```
//! What stands in a section is its room's business; `crate::section` says whose kinds are whose.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ringlane_layout::record;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::crash;
use crate::section::{Section, SectionSink};
use crate::world;

/// Version of the file format that this build writes, and the only one that it reads.
const FORMAT_VERSION: u32 = 1;
const MAGIC: u64 = u64::from_le_bytes(*b"RLSNAP01");
const TRAILER_MAGIC: u64 = u64::from_le_bytes(*b"RLSNAPEN");
const ENDING: &str = ".snapshot";
const ENDING_NEW: &str = ".snapshot.new";

record! {
    /// First bytes of a snapshot.
    pub struct SnapshotHeader: 128 {
        /// `RLSNAP01`.
        magic: u64,
        /// Version of the file format.
        format_version: u32,
        /// Semantic version of the kernels.
        engine_version: u32,
        /// Last sequence number that it takes into account.
        sequence: u64,
        /// Running hash of all outputs so far.
        output_hash: u64,
        /// Hash of the order kernel's state.
        state_hash: u64,
        /// Segment in which the journal goes on.
        segment_index: u64,
        /// Where in it the next frame begins, bytes.
        segment_offset: u64,
        /// How often the journal was opened for writing when it was made.
        epoch: u64,
        /// Wall clock at the copy, nanoseconds since 1970.
        created_ns: u64,
        /// Resting orders in it.
        resting_orders: u64,
        /// How long intake was held up for it, nanoseconds.
        pause_ns: u64,
        /// Zero.
        reserved0: [u8; 8],
        /// Zero.
        reserved1: [u8; 32],
    }
}

record! {
    /// First bytes of a section.
    pub struct SectionHeader: 64 {
        /// What it holds.
        kind: u32,
        /// Version of what it holds.
        version: u32,
        /// Length of what follows, bytes.
        bytes: u64,
        /// Zero.
        reserved0: [u8; 16],
        /// Zero.
        reserved1: [u8; 32],
    }
}

record! {
    /// Last bytes of a snapshot.
    pub struct SnapshotTrailer: 64 {
        /// `RLSNAPEN`.
        magic: u64,
        /// Length of the whole file, bytes.
        bytes: u64,
        /// XXH3-64 of everything before the trailer.
        hash: u64,
        /// Zero.
        reserved0: [u8; 8],
        /// Zero.
        reserved1: [u8; 32],
    }
}

/// The snapshots of a directory with their sequence numbers, the newest first.
pub fn list_snapshots(directory: &Path) -> Vec<(u64, PathBuf)> {
    let sequence = |path: &Path| path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok();
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<(u64, PathBuf)> = entries.filter_map(|entry| Some((sequence(&entry.path())?, entry.path()))).collect();
    found.sort_unstable_by(|left, right| right.cmp(left));
    found
}

/// Removes what a killed sidecar left half written, and all snapshots but the newest `kept`.
pub fn clean_snapshots(directory: &Path, kept: usize) {
    let unfinished = |path: &PathBuf| path.to_str().is_some_and(|name| name.ends_with(ENDING_NEW));
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let old = list_snapshots(directory).into_iter().skip(kept).map(|(_, path)| path);
    for path in entries.filter(unfinished).chain(old) {
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "an old snapshot could not be removed");
        }
    }
}

/// A snapshot that is being written.
pub struct SnapshotWriter {
    directory: PathBuf,
    sequence: u64,
    file: BufWriter<File>,
    hash: Xxh3,
    written: u64,
    /// Bytes of the section that are still to come, and its padding.
    left: (u64, u64),
}

impl SnapshotWriter {
    /// Begins the file.
    pub fn create(directory: &Path, header: &SnapshotHeader) -> Result<Self, String> {
        let header = SnapshotHeader { magic: MAGIC, format_version: FORMAT_VERSION, ..*header };
        let path = directory.join(format!("{}{ENDING_NEW}", header.sequence));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(|error| format!("cannot write the snapshot {}: {error}", path.display()))?;
        let file = BufWriter::with_capacity(1 << 20, file);
        let mut writer =
            Self { directory: directory.to_owned(), sequence: header.sequence, file, hash: Xxh3::new(), written: 0, left: (0, 0) };
        writer.append(bytemuck::bytes_of(&header))?;
        Ok(writer)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.hash.update(bytes);
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|error| format!("cannot write the snapshot of sequence {}: {error}", self.sequence))
    }

    fn end_section(&mut self) -> Result<(), String> {
        assert!(self.left.0 == 0, "a section ends when all of its bytes are there");
        let padding = std::mem::take(&mut self.left.1) as usize;
        self.append(&[0; 8][..padding])
    }

    /// Ends the file: from here on it has its name. Gives its length, bytes.
    pub fn finish(mut self) -> Result<u64, String> {
        self.end_section()?;
        let bytes = self.written + size_of::<SnapshotTrailer>() as u64;
        let trailer = SnapshotTrailer { magic: TRAILER_MAGIC, bytes, hash: self.hash.digest(), ..SnapshotTrailer::default() };
        crash::point("snapshot.trailer");
        self.append(bytemuck::bytes_of(&trailer))?;
        let name = |ending: &str| self.directory.join(format!("{}{ending}", self.sequence));
        let (temporary, path) = (name(ENDING_NEW), name(ENDING));
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error);
        crash::point("snapshot.fsync.before");
        file.and_then(|file| world::sync_all(&file))
            .inspect(|()| crash::point("rename.before"))
            .and_then(|()| std::fs::rename(&temporary, &path))
            .inspect(|()| crash::point("rename.after"))
            .and_then(|()| world::sync_directory(&self.directory))
            .map_err(|error| format!("cannot finish the snapshot {}: {error}", path.display()))?;
        Ok(bytes)
    }
}

impl SectionSink for SnapshotWriter {
    fn begin(&mut self, kind: u32, version: u32, bytes: u64) -> Result<(), String> {
        self.end_section()?;
        crash::point("snapshot.section");
        self.left = (bytes, bytes.next_multiple_of(8) - bytes);
        self.append(bytemuck::bytes_of(&SectionHeader { kind, version, bytes, ..SectionHeader::default() }))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), String> {
        assert!(bytes.len() as u64 <= self.left.0, "a section has no more bytes than it said");
        self.left.0 -= bytes.len() as u64;
        self.append(bytes)
    }
}

/// A snapshot that was read and whose hash is right.
pub struct Snapshot {
    /// Its header.
    pub header: SnapshotHeader,
    bytes: Vec<u8>,
}

impl Snapshot {
    /// Reads a whole file and checks that it is whole. An error says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, String> {
        let say = |words: &dyn std::fmt::Display| format!("{}: {words}", path.display());
        let mut bytes = Vec::new();
        File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(|error| say(&error))?;
        let (body, trailer) =
            bytes.split_last_chunk::<{ size_of::<SnapshotTrailer>() }>().ok_or_else(|| say(&"it is too short to be a snapshot"))?;
        let trailer: SnapshotTrailer = bytemuck::pod_read_unaligned(trailer);
        let Some(header) = body.first_chunk::<{ size_of::<SnapshotHeader>() }>() else {
            return Err(say(&"it is too short to be a snapshot"));
        };
        let header: SnapshotHeader = bytemuck::pod_read_unaligned(header);
        if header.magic != MAGIC {
            return Err(say(&"its first bytes are not those of a snapshot"));
        }
        if header.format_version != FORMAT_VERSION {
            let version = header.format_version;
            return Err(say(&format!("its format is version {version}, and this build reads {FORMAT_VERSION}")));
        }
        if trailer.magic != TRAILER_MAGIC || trailer.bytes != bytes.len() as u64 || trailer.hash != xxh3_64(body) {
            return Err(say(&"its hash does not match: it is damaged"));
        }
        sections(body).ok_or_else(|| say(&"its sections do not fit its length"))?;
        Ok(Self { header, bytes })
    }

    /// Its sections, in the order in which they were written.
    #[must_use]
    pub fn sections(&self) -> Vec<Section<'_>> {
        sections(&self.bytes[..self.bytes.len() - size_of::<SnapshotTrailer>()]).expect("they were looked at when it was read")
    }
}

/// The sections of a snapshot without its trailer; none where they do not fit its length.
fn sections(body: &[u8]) -> Option<Vec<Section<'_>>> {
    let (mut rest, mut sections) = (&body[size_of::<SnapshotHeader>()..], Vec::new());
    while let Some((header, behind)) = rest.split_first_chunk::<{ size_of::<SectionHeader>() }>() {
        let SectionHeader { kind, version, bytes, .. } = bytemuck::pod_read_unaligned(header);
        let padded = usize::try_from(bytes).ok().and_then(|bytes| bytes.checked_next_multiple_of(8));
        let Some(padded) = padded.filter(|padded| *padded <= behind.len()) else { break };
        sections.push(Section { kind, version, bytes: &behind[..bytes as usize] });
        rest = &behind[padded..];
    }
    rest.is_empty().then_some(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_read_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        for sequence in [7, 9, 12] {
            let mut writer = SnapshotWriter::create(directory.path(), &SnapshotHeader { sequence, ..SnapshotHeader::default() }).unwrap();
            writer.begin(3, 2, 11).unwrap();
            writer.put(b"hello ").unwrap();
            writer.put(b"world").unwrap();
            writer.begin(4, 1, 0).unwrap();
            writer.finish().unwrap();
        }
        std::fs::write(directory.path().join("13.snapshot.new"), b"half").unwrap();
        clean_snapshots(directory.path(), 2);
        let found = list_snapshots(directory.path());
        assert_eq!(found.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [12, 9]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
        let snapshot = Snapshot::read(&found[0].1).unwrap();
        let sections = snapshot.sections();
        assert_eq!((sections[0].kind, sections[0].version, sections[0].bytes), (3, 2, &b"hello world"[..]));
        assert_eq!((sections.len(), sections[1].bytes.len(), snapshot.header.sequence), (2, 0, 12));
        let whole = std::fs::read(&found[0].1).unwrap();
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            std::fs::write(&found[0].1, &flipped).unwrap();
            // Bytes of the trailer that say nothing are not looked at.
            assert!(Snapshot::read(&found[0].1).is_err() || at >= whole.len() - 40, "byte {at} may change");
            std::fs::write(&found[0].1, &whole[..at]).unwrap();
            assert!(Snapshot::read(&found[0].1).is_err(), "it may end at {at}");
        }
    }
}
