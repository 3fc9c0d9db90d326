//! What is read back from outside is doubted byte by byte: recordings, boards and journaled records, truncated, flipped and
//! made up. Nothing panics, and no damaged frame is taken for a frame. `RINGLANE_SEED=n` repeats a failed run.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use ringlane_layout::board::{BOARD_BYTES, BOARD_MAGIC, LANE_ROWS_OFFSET, board_name};
use ringlane_layout::limits::{LANES_MAX, LAYOUT_VERSION};
use ringlane_layout::orders::OrderRequest;
use ringlane_layout::record::{Record, RecordBytes};
use ringlane_sidecar::board::BoardReader;
use ringlane_sidecar::engine::{ENGINE_VERSION, Engine};
use ringlane_sidecar::journal::{
    Epoch, FRAMES_OFFSET, Frame, FrameHeader, FrameKind, FrameMeta, JournalEnd, Reader, SEGMENT_MAGIC, SegmentHeader, Writer, WriterConfig,
    segment_crc,
};
use ringlane_sidecar::replay::replay;
use ringlane_sidecar::status::{status, status_text};
use tempfile::TempDir;

/// Runs a property on `cases` values; a failure prints the seed that repeats it.
fn check<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let seed = std::env::var("RINGLANE_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    let config = ProptestConfig { cases, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::default() };
    TestRunner::new(config).run(strategy, test).unwrap_or_else(|error| panic!("repeat with RINGLANE_SEED={seed}\n{error}"));
}

/// One frame as it was read: header and records.
type Read = (FrameHeader, Vec<RecordBytes>);

const CONFIG: WriterConfig = WriterConfig {
    segment_bytes: 64 << 10,
    prefault_bytes: 4 << 10,
    retention_bytes: 1 << 30,
    spare_segments: 0,
    disk_hours_min: 0,
    is_mapped: true,
    avoid_cpu: None,
    void: None,
};
const EPOCH: Epoch = Epoch { number: 1, engine_version: 1, request_schema_hash: OrderRequest::SCHEMA_HASH };

fn meta(first_sequence: u64) -> FrameMeta {
    let (kind, schema_hash) = (FrameKind::Orders, OrderRequest::SCHEMA_HASH);
    FrameMeta { kind, lane: 3, first_sequence, first_slot: 0, schema_hash, output_hash: 0, time_ns: 1, waiting_slots: 0 }
}

/// Writes frames of 1, 2, ... records, all different.
fn write_frames(directory: &Path, segment: u64, first_sequence: u64, frames: usize) -> u64 {
    write_epoch(directory, segment, EPOCH, first_sequence, frames)
}

fn write_epoch(directory: &Path, segment: u64, epoch: Epoch, first_sequence: u64, frames: usize) -> u64 {
    let mut writer = Writer::open(directory, segment, CONFIG, epoch, &meta(first_sequence)).unwrap();
    let mut sequence = first_sequence;
    for count in 1..=frames {
        let fill = |records: &mut [RecordBytes]| (sequence..).zip(records).for_each(|(n, record)| *record = RecordBytes([n as u8 | 1; 64]));
        writer.append(&meta(sequence), count, fill).unwrap();
        sequence += count as u64;
    }
    sequence
}

/// The frames of a recording and its end, or why it is none.
fn read(path: &Path) -> Result<(Vec<Read>, JournalEnd), String> {
    let mut reader = Reader::open(path)?;
    let mut frames = Vec::new();
    while let Some(frame) = reader.next_frame()? {
        frames.push((frame.header, frame.records.to_vec()));
    }
    Ok((frames, reader.end().cloned().expect("a recording that was read has an end")))
}

/// A small recording of one segment: its file, its frames, and how many bytes of it are used.
fn recording() -> (TempDir, PathBuf, Vec<Read>, u64) {
    let directory = tempfile::tempdir().unwrap();
    write_frames(directory.path(), 1, 1, 4);
    let path = directory.path().join("00000001.ringlane");
    let (frames, end) = read(&path).unwrap();
    assert_eq!((frames.len(), end), (4, JournalEnd::Clean));
    let used = FRAMES_OFFSET as u64 + frames.iter().map(|(_, records)| 64 + 64 * records.len() as u64).sum::<u64>();
    (directory, path, frames, used)
}

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).unwrap()
}

#[test]
fn a_recording_cut_at_any_byte_gives_its_first_whole_frames() {
    let (_directory, path, frames, used) = recording();
    let file = open(&path);
    for length in (0..used).rev() {
        file.set_len(length).unwrap();
        let outcome = read(&path);
        if length < FRAMES_OFFSET as u64 {
            assert!(outcome.is_err_and(|words| words.contains("shorter")), "{length} bytes");
            continue;
        }
        let (found, end) = outcome.unwrap();
        assert_eq!(found, frames[..found.len()], "{length} bytes");
        let whole = FRAMES_OFFSET as u64 + found.iter().map(|(_, records)| 64 + 64 * records.len() as u64).sum::<u64>();
        assert!(whole <= length);
        assert_eq!(end == JournalEnd::Clean, length == whole, "{length} bytes: {end:?}");
    }
}

#[test]
fn a_recording_with_any_bit_flipped_is_damaged_or_loses_its_last_frame() {
    let (_directory, path, frames, used) = recording();
    let last = used - 64 - 64 * frames[3].1.len() as u64;
    let file = open(&path);
    let mut byte = [0];
    for offset in 0..used + 64 {
        file.read_exact_at(&mut byte, offset).unwrap();
        for bit in 0..8 {
            file.write_all_at(&[byte[0] ^ 1 << bit], offset).unwrap();
            match read(&path) {
                Ok((found, end)) => {
                    assert!(offset >= last, "bit {bit} of byte {offset} cut acknowledged frames off");
                    assert_eq!(found, frames[..if offset < used { 3 } else { 4 }], "bit {bit} of byte {offset}");
                    assert!(end != JournalEnd::Clean, "bit {bit} of byte {offset} was not noticed");
                }
                Err(words) => assert!(offset < last && words.contains("00000001.ringlane"), "bit {bit} of byte {offset}: {words}"),
            }
        }
        file.write_all_at(&byte, offset).unwrap();
    }
    assert_eq!(read(&path).unwrap().0, frames);
}

#[test]
fn zeros_in_the_middle_are_damage_and_at_the_end_a_torn_tail() {
    let (_directory, path, frames, used) = recording();
    let file = open(&path);
    let zeroed = |from: u64, len: u64| {
        let mut original = vec![0; len as usize];
        file.read_exact_at(&mut original, from).unwrap();
        file.write_all_at(&vec![0; len as usize], from).unwrap();
        let outcome = read(&path);
        file.write_all_at(&original, from).unwrap();
        outcome
    };
    let start = FRAMES_OFFSET as u64;
    assert!(zeroed(start, 128).is_err_and(|words| words.contains("a whole frame follows at offset 4224")));
    assert!(zeroed(start + 128, 192).is_err_and(|words| words.contains("at offset 4224")));
    assert!(zeroed(0, start).is_err_and(|words| words.contains("its first page is zeros")));
    // A killed writer leaves records without their header, and a recycled file has older ones there.
    let last = used - 64 - 64 * 4;
    assert_eq!(zeroed(last, 64).unwrap(), (frames[..3].to_vec(), JournalEnd::Clean));
    let (found, end) = zeroed(last + 64, 64).unwrap();
    assert_eq!(found, frames[..3]);
    assert!(matches!(end, JournalEnd::Torn { offset, .. } if offset == last), "{end:?}");
    assert_eq!(read(&path).unwrap(), (frames, JournalEnd::Clean));
}

#[test]
fn an_epoch_goes_on_exactly_behind_the_one_before() {
    let next = Epoch { number: 2, ..EPOCH };
    let behind = |epoch: Epoch, skipped: u64, cut: bool| {
        let directory = tempfile::tempdir().unwrap();
        let sequence = write_frames(directory.path(), 1, 1, 4);
        if cut {
            // The last frame, of four records, is torn: it was never acknowledged.
            open(&directory.path().join("00000001.ringlane")).write_all_at(&[1; 4], FRAMES_OFFSET as u64 + 640).unwrap();
        }
        write_epoch(directory.path(), 2, epoch, sequence + skipped - if cut { 4 } else { 0 }, 2);
        read(directory.path()).map(|(frames, end)| (frames.len(), end))
    };
    assert_eq!(behind(next, 0, false), Ok((6, JournalEnd::Clean)));
    assert_eq!(behind(next, 0, true), Ok((5, JournalEnd::Clean)));
    assert!(behind(next, 1, false).is_err_and(|words| words.contains("records are missing before it")));
    assert!(behind(next, 4, true).is_err_and(|words| words.contains("records are missing before it")));
    assert!(behind(EPOCH, 0, false).is_err_and(|words| words.contains("epoch 1 behind an end of epoch 1")));
    assert!(behind(Epoch { request_schema_hash: 7, ..next }, 0, false).is_err_and(|words| words.contains("another schema")));
}

#[test]
fn segments_that_changed_places_are_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(directory.path(), 1, CONFIG, EPOCH, &meta(1)).unwrap();
    for n in 0..1000_u64 {
        writer.wait_for_room(&meta(1 + 2 * n), 2).unwrap();
        writer.append(&meta(1 + 2 * n), 2, |records| records.fill(RecordBytes([n as u8; 64]))).unwrap();
    }
    writer.close(&meta(2001));
    assert_eq!(read(directory.path()).unwrap().0.len(), 1000);
    let name = |index: u64| directory.path().join(format!("{index:08}.ringlane"));
    let last = (1..).take_while(|index| name(*index).exists()).last().unwrap();
    assert!(last > 3);
    let swap = |a: &Path, b: &Path| {
        let between = directory.path().join("between");
        for (from, to) in [(a, between.as_path()), (b, a), (between.as_path(), b)] {
            std::fs::rename(from, to).unwrap();
        }
    };
    swap(&name(2), &name(3));
    assert!(read(directory.path()).is_err_and(|words| words.contains("its header says that it is segment 3")));
    swap(&name(2), &name(3));
    std::fs::remove_file(name(last)).unwrap();
    let words = format!("segment {last} is missing: the recording goes on");
    assert!(read(directory.path()).is_err_and(|said| said.contains(&words)));
}

#[test]
fn a_recording_with_damage_anywhere_is_read_without_panic() {
    let (_directory, path, frames, used) = recording();
    let file = open(&path);
    let mut original = vec![0; used as usize + 256];
    file.read_exact_at(&mut original, 0).unwrap();
    let near_frames = FRAMES_OFFSET as u64 - 16..used + 128;
    let places = vec((prop_oneof![4 => near_frames, 1 => 0..128_u64], vec(any::<u8>(), 1..80)), 1..4);
    check(3_000, &places, |damage| {
        for (offset, bytes) in damage {
            file.write_all_at(&bytes, offset).unwrap();
        }
        let outcome = read(&path);
        let _ = replay(&path, &mut Engine::new(7), |_| {});
        file.write_all_at(&original, 0).unwrap();
        if let Ok((found, _)) = outcome {
            prop_assert_eq!(&found[..], &frames[..found.len()]);
        }
        Ok(())
    });
}

#[test]
fn made_up_segments_are_read_without_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("00000001.ringlane");
    // Headers with plausible lengths, so that the reader goes far; the checksum lets none of it through.
    let header = (0..300_u32, vec(any::<u8>(), 60)).prop_map(|(count, rest)| [(count * 64).to_le_bytes().to_vec(), rest].concat());
    let body = vec(prop_oneof![header, vec(any::<u8>(), 0..300), Just(vec![0; 64])], 0..6);
    check(1_000, &(vec(any::<u8>(), 0..200), any::<bool>(), body), |(head, is_ours, body)| {
        let mut bytes = vec![0; FRAMES_OFFSET];
        bytes[..head.len()].copy_from_slice(&head);
        if is_ours {
            let words = (SEGMENT_MAGIC, 1, OrderRequest::SCHEMA_HASH);
            let mut header =
                SegmentHeader { magic: words.0, format_version: words.1, request_schema_hash: words.2, ..SegmentHeader::default() };
            (header.epoch, header.index, header.first_sequence) = (1, 1, 1);
            header.crc32c = segment_crc(&header);
            bytes.fill(0);
            bytes[..128].copy_from_slice(bytemuck::bytes_of(&header));
        }
        bytes.extend(body.concat());
        std::fs::write(&path, &bytes).unwrap();
        if let Ok((found, _)) = read(&path) {
            prop_assert!(found.is_empty());
        }
        Ok(())
    });
}

#[test]
fn a_segment_made_ahead_and_never_used_hides_nothing_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let sequence = write_frames(directory.path(), 1, 1, 4);
    std::fs::write(directory.path().join("00000002.ringlane"), vec![0; 64 << 10]).unwrap();
    std::fs::write(directory.path().join("00000003.ringlane"), vec![0; 64 << 10]).unwrap();
    write_epoch(directory.path(), 4, Epoch { number: 2, ..EPOCH }, sequence, 5);
    let (frames, end) = read(directory.path()).unwrap();
    assert_eq!((frames.len(), end), (9, JournalEnd::Clean));
    std::fs::remove_file(directory.path().join("00000003.ringlane")).unwrap();
    assert!(read(directory.path()).is_err_and(|words| words.contains("segment 3 is missing")));
}

#[test]
fn a_segment_that_cannot_be_reserved_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let config = WriterConfig { segment_bytes: 1 << 60, ..CONFIG };
    assert!(Writer::open(directory.path(), 1, config, EPOCH, &meta(1)).is_err_and(|words| words.contains("cannot reserve")));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn odd_file_names_are_no_segments_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    assert!(read(directory.path()).is_err_and(|words| words.contains("no recording")));
    write_frames(directory.path(), 1, 1, 1);
    for name in ["x.ringlane", ".ringlane", "00000002.ringlane.new", "-1.ringlane", "lock"] {
        std::fs::write(directory.path().join(name), b"x").unwrap();
    }
    assert_eq!(read(directory.path()).unwrap().0.len(), 1);
    std::fs::write(directory.path().join(format!("{}.ringlane", u64::MAX)), b"x").unwrap();
    assert!(read(directory.path()).is_err_and(|words| words.contains("segment 2 is missing")));
}

/// Whatever whole frames hold, applying them ends in a state or in words.
#[test]
fn frames_of_any_records_are_applied_or_refused() {
    const KINDS: [FrameKind; 7] = [
        FrameKind::Orders,
        FrameKind::Instruments,
        FrameKind::Accounts,
        FrameKind::LaneOpen,
        FrameKind::LaneClose,
        FrameKind::Void,
        FrameKind::End,
    ];
    // Mostly small numbers in mostly zero records, so that they mean something.
    let word = prop_oneof![8 => Just(0_u64), 8 => 1..5_u64, 2 => any::<u64>(), 2 => any::<u32>().prop_map(u64::from)];
    let record = vec(word, 8).prop_map(|words| bytemuck::pod_read_unaligned::<RecordBytes>(bytemuck::cast_slice(&words)));
    let frame = (prop::sample::select(&KINDS[..]), 0..4_u32, vec(record, 1..4));
    check(3_000, &vec(frame, 1..12), |frames| {
        let mut engine = Engine::new(7);
        for (kind, lane, records) in frames {
            let (first_sequence, output_hash) = (engine.next_sequence(), engine.output_hash());
            let header = FrameHeader { first_sequence, output_hash, lane, kind: kind as u8, ..FrameHeader::default() };
            if engine.apply(&Frame { header, kind, engine_version: ENGINE_VERSION, records: &records, voids: &[] }).is_err() {
                return Ok(());
            }
            let _ = engine.orders.state_hash();
        }
        Ok(())
    });
}

#[test]
fn boards_of_any_bytes_are_shown_or_refused() {
    let address = format!("/nowhere/decode/{}", std::process::id());
    let path = Path::new("/dev/shm").join(board_name(&address));
    let rows = vec((0..LANES_MAX, vec(prop_oneof![any::<u64>(), 0..3_u64], 32)), 0..8);
    let lengths = prop_oneof![6 => Just(BOARD_BYTES), 1 => 0..BOARD_BYTES];
    check(200, &(vec(any::<u64>(), 64), any::<bool>(), rows, lengths), |(mut head, is_ours, rows, length)| {
        if is_ours {
            (head[0], head[1]) = (BOARD_MAGIC, u64::from(LAYOUT_VERSION));
        }
        let mut bytes = vec![0; BOARD_BYTES];
        bytes[..512].copy_from_slice(bytemuck::cast_slice(&head));
        for (index, words) in rows {
            let at = LANE_ROWS_OFFSET + index * 256;
            bytes[at..at + 256].copy_from_slice(bytemuck::cast_slice(&words));
        }
        std::fs::write(&path, &bytes[..length]).unwrap();
        let reader = BoardReader::open(&address);
        prop_assert_eq!(reader.is_ok(), is_ours && length == BOARD_BYTES);
        if let Ok(reader) = reader {
            let text = status_text(&status(&reader));
            prop_assert!(text.contains("health"));
        }
        Ok(())
    });
    std::fs::remove_file(&path).unwrap();
}
