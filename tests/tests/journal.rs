//! The journal's life on a disk: segments that are used again, caps that hold or are told, marks of a clean end, older and
//! newer formats. What a reader makes of damaged bytes is tested in `decode`.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringlane_layout::orders::OrderRequest;
use ringlane_layout::record::{Record, RecordBytes};
use ringlane_sidecar::journal::{
    Epoch, FORMAT_VERSION, FRAMES_OFFSET, FrameKind, FrameMeta, JournalEnd, RESERVE_OFFSET, Reader, SegmentHeader, Trouble, Writer,
    WriterConfig, list_segments, newest_snapshot_sequence, segment_crc,
};

const SEGMENT_BYTES: u64 = 64 << 10;
const EPOCH: Epoch = Epoch { number: 1, engine_version: 1, request_schema_hash: OrderRequest::SCHEMA_HASH };

fn config(segments: u64, spare_segments: usize) -> WriterConfig {
    WriterConfig {
        segment_bytes: SEGMENT_BYTES,
        prefault_bytes: 4 << 10,
        retention_bytes: segments * SEGMENT_BYTES,
        spare_segments,
        disk_hours_min: 0,
        ..WriterConfig::default()
    }
}

fn meta(first_sequence: u64) -> FrameMeta {
    let (kind, schema_hash) = (FrameKind::Orders, OrderRequest::SCHEMA_HASH);
    FrameMeta { kind, lane: 3, first_sequence, first_slot: 0, schema_hash, output_hash: 0, time_ns: 1, waiting_slots: 0 }
}

/// A record that tells its sequence number and who wrote it.
fn record(sequence: u64, writer: u8) -> RecordBytes {
    let mut bytes = [writer; 64];
    bytes[..8].copy_from_slice(&sequence.to_le_bytes());
    RecordBytes(bytes)
}

/// Appends `frames` frames of two records.
fn write(writer: &mut Writer, sequence: &mut u64, frames: u64, who: u8) {
    for _ in 0..frames {
        let first = *sequence;
        writer.wait_for_room(&meta(first), 2).unwrap();
        let fill = |records: &mut [RecordBytes]| (first..).zip(records).for_each(|(n, place)| *place = record(n, who));
        writer.append(&meta(first), 2, fill).unwrap();
        *sequence += 2;
    }
}

/// Reads everything: the sequence numbers of the records, checked one by one, and whether there was an end mark.
fn read(path: &Path, who: u8) -> Result<(Vec<u64>, JournalEnd, bool), String> {
    let mut reader = Reader::open(path)?;
    let mut sequences = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        for (sequence, found) in (frame.header.first_sequence..).zip(frame.records) {
            assert_eq!(*found, record(sequence, who), "record {sequence}");
            sequences.push(sequence);
        }
    }
    Ok((sequences, reader.end().cloned().unwrap(), reader.is_closed()))
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().ino()
}

fn name(directory: &Path, index: u64) -> PathBuf {
    directory.join(format!("{index:08}.ringlane"))
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn segments_that_a_snapshot_covers_are_used_again() {
    for spares in [0, 2] {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(directory.path(), 1, config(8, spares), EPOCH, &meta(1)).unwrap();
        let mut sequence = 1;
        let mut inodes = vec![inode(&name(directory.path(), 1))];
        for _ in 0..40 {
            write(&mut writer, &mut sequence, 150, 1);
            std::fs::write(directory.path().join(format!("{}.snapshot", sequence - 1)), b"").unwrap();
            let segments = list_segments(directory.path()).unwrap();
            inodes.push(inode(&segments.last().unwrap().1));
            assert!(segments.len() <= 9, "{} segments are over the cap of 8", segments.len());
        }
        let disk = writer.disk();
        assert!(disk.recycled.load(Ordering::Relaxed) > 5);
        assert_eq!(disk.errno.load(Ordering::Relaxed), 0);
        inodes.sort_unstable();
        inodes.dedup();
        assert!(inodes.len() < 20, "{} files for 40 segments: they were not used again", inodes.len());
        // The thread that makes segments may still be taking old ones away, under the reader's feet.
        wait_for("the end of pruning", || {
            let segments = || list_segments(directory.path()).unwrap().first().map(|(index, _)| *index);
            let first = segments();
            std::thread::sleep(Duration::from_millis(200));
            segments() == first
        });
        // Whatever stands behind the last frame of a file that was used before, it is no frame.
        let (sequences, end, closed) = read(directory.path(), 1).unwrap();
        assert!(sequences.iter().copied().eq(sequences[0]..sequence), "records are missing");
        assert!(sequences[0] > 1, "the oldest segment is still there");
        assert_eq!((end, closed), (JournalEnd::Clean, false));
        writer.close(&meta(sequence));
        // Meanwhile another old one may have gone.
        let (again, end, closed) = read(directory.path(), 1).unwrap();
        assert!(sequences.ends_with(&again) && !again.is_empty());
        assert_eq!((end, closed), (JournalEnd::Clean, true));
        let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".new")), "{left:?}");
    }
}

#[test]
fn without_a_snapshot_nothing_goes_and_the_cap_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(directory.path(), 1, config(4, 0), EPOCH, &meta(1)).unwrap();
    let mut sequence = 1;
    write(&mut writer, &mut sequence, 2_000, 1);
    assert!(list_segments(directory.path()).unwrap().len() > 6);
    let trouble = || writer.disk().trouble.load(Ordering::Relaxed);
    wait_for("the cap's trouble", || trouble() == Trouble::OverCap as u64);
    assert_eq!(read(directory.path(), 1).unwrap().0.len() as u64, sequence - 1);
    // A snapshot that covers a part lets that part go, and not one segment more.
    std::fs::write(directory.path().join("1000.snapshot"), b"").unwrap();
    std::fs::write(directory.path().join("3.snapshot"), b"").unwrap();
    assert_eq!(newest_snapshot_sequence(directory.path()), Some(1_000));
    wait_for("retention", || !name(directory.path(), 1).exists());
    std::thread::sleep(Duration::from_millis(1_200));
    let first = read(directory.path(), 1).unwrap().0[0];
    assert!((2..=1_001).contains(&first), "recovery from 1,000 needs what follows it, and the recording begins at {first}");
    std::fs::write(directory.path().join(format!("{}.snapshot", sequence - 1)), b"").unwrap();
    wait_for("the end of the trouble", || trouble() == Trouble::None as u64);
    assert_eq!(read(directory.path(), 1).unwrap().0.last(), Some(&(sequence - 1)));
}

/// A recording of one segment with this many frames, whose sidecar was killed.
fn killed(frames: u64, who: u8) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(directory.path(), 1, config(4, 0), EPOCH, &meta(1)).unwrap();
    write(&mut writer, &mut 1, frames, who);
    drop(writer);
    let path = name(directory.path(), 1);
    (directory, path)
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn an_old_frame_in_the_right_place_with_the_right_number_is_no_frame() {
    let (_old_directory, old) = killed(10, 1);
    let (_directory, new) = killed(7, 2);
    // What a recycled file holds at worst: the very frames that are due, whole, exactly where they are due.
    let at = FRAMES_OFFSET as u64 + 7 * 192;
    let mut bytes = vec![0; 3 * 192];
    open(&old).read_exact_at(&mut bytes, at).unwrap();
    open(&new).write_all_at(&bytes, at).unwrap();
    let (sequences, end, _) = read(&new, 2).unwrap();
    assert_eq!(sequences, (1..=14).collect::<Vec<_>>());
    assert!(matches!(end, JournalEnd::Torn { offset, .. } if offset == at), "{end:?}");
    // Behind zeros, as the writer leaves them, they are not even remains.
    open(&new).write_all_at(&[0; 64], at).unwrap();
    assert_eq!(read(&new, 2).unwrap().1, JournalEnd::Clean);
}

#[test]
fn a_cut_between_two_frames_is_noticed_by_the_missing_end_mark() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(directory.path(), 1, config(4, 0), EPOCH, &meta(1)).unwrap();
    let mut sequence = 1;
    write(&mut writer, &mut sequence, 10, 1);
    writer.close(&meta(sequence));
    let path = name(directory.path(), 1);
    assert!(read(&path, 1).unwrap().2);
    for frames in 0..=10 {
        let cut = directory.path().join("cut.ringlane");
        std::fs::copy(&path, &cut).unwrap();
        open(&cut).set_len(FRAMES_OFFSET as u64 + frames * 192).unwrap();
        let (sequences, end, closed) = read(&cut, 1).unwrap();
        assert_eq!((sequences.len() as u64, end, closed), (2 * frames, JournalEnd::Clean, false));
    }
    // The next epoch follows a closed segment, and a whole recording of both is closed again.
    let epoch = Epoch { number: 2, ..EPOCH };
    let mut writer = Writer::open(directory.path(), 2, config(4, 0), epoch, &meta(sequence)).unwrap();
    write(&mut writer, &mut sequence, 3, 1);
    std::fs::remove_file(directory.path().join("cut.ringlane")).unwrap();
    assert!(!read(directory.path(), 1).unwrap().2);
    writer.close(&meta(sequence));
    let (sequences, _, closed) = read(directory.path(), 1).unwrap();
    assert_eq!((sequences.len(), closed), (26, true));
}

/// Gives a segment another header.
fn with_header(path: &Path, change: impl Fn(&mut SegmentHeader)) {
    let mut bytes = [0; size_of::<SegmentHeader>()];
    open(path).read_exact_at(&mut bytes, 0).unwrap();
    let mut header: SegmentHeader = bytemuck::pod_read_unaligned(&bytes);
    change(&mut header);
    header.crc32c = segment_crc(&header);
    open(path).write_all_at(bytemuck::bytes_of(&header), 0).unwrap();
}

#[test]
fn format_1_is_read_and_a_newer_one_refused_in_words() {
    let (_directory, path) = killed(5, 1);
    with_header(&path, |header| header.format_version = FORMAT_VERSION + 1);
    let words = read(&path, 1).unwrap_err();
    assert!(
        words.contains(&format!("its format is version {}, and this build reads 1 to {FORMAT_VERSION}", FORMAT_VERSION + 1)),
        "{words}"
    );
    assert!(words.contains("use the ringlane that wrote it"));
    // Format 1: no reserve in the first page.
    with_header(&path, |header| header.format_version = 1);
    open(&path).write_all_at(&[0; 64], RESERVE_OFFSET as u64).unwrap();
    assert_eq!(read(&path, 1).unwrap().0, (1..=10).collect::<Vec<_>>());
    // And a format 2 that lost its reserve is damaged.
    with_header(&path, |header| header.format_version = 2);
    assert!(read(&path, 1).is_err_and(|words| words.contains("its first page is damaged")));
}

#[test]
fn a_segment_made_ahead_of_a_kill_hides_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(directory.path(), 1, config(4, 0), EPOCH, &meta(1)).unwrap();
    let mut sequence = 1;
    // More than half of a segment: the next one is made.
    write(&mut writer, &mut sequence, 200, 1);
    wait_for("the next segment", || name(directory.path(), 2).exists());
    drop(writer);
    assert_eq!(read(directory.path(), 1).unwrap().0.len() as u64, sequence - 1);
    let epoch = Epoch { number: 2, ..EPOCH };
    let mut writer = Writer::open(directory.path(), 3, config(4, 0), epoch, &meta(sequence)).unwrap();
    write(&mut writer, &mut sequence, 5, 1);
    assert_eq!(read(directory.path(), 1).unwrap().0.len() as u64, sequence - 1);
    // Killed while the header was written.
    open(&name(directory.path(), 2)).write_all_at(b"RLJRN001\x02", 0).unwrap();
    assert_eq!(read(directory.path(), 1).unwrap().0.len() as u64, sequence - 1);
}
