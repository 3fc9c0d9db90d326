//! What stands behind the last whole frame of a segment: nothing, the remains of a frame, or whole frames.

use std::fs::File;
use std::io::Error;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use ringlane_layout::limits::RECORD_BYTES;

use super::{FRAME_HEADER_BYTES, FrameHeader, PAYLOAD_BYTES_MAX, frame_crc};
use crate::world;

/// Bytes that are looked at together.
const BLOCK_BYTES: usize = 1 << 20;

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Zeros up to the file's end.
    Nothing,
    /// Other bytes than zeros, and no whole frame.
    Bytes,
    /// A whole frame at this offset.
    Frame(u64),
}

/// Looks from `offset` on, which is where a frame could begin, for a whole frame of records from `first_sequence` on that says
/// that the journal was durable there. Frames behind a torn one that say less were being written together with it. Where the file
/// is read next is moved.
pub fn search(file: &File, offset: u64, frame_seed: u32, first_sequence: u64) -> Result<Found, Error> {
    let (mut block, mut payload) = (vec![0; BLOCK_BYTES], vec![0; PAYLOAD_BYTES_MAX]);
    let mut found = Found::Nothing;
    for Range { mut start, end } in written(file, offset)? {
        while start < end {
            let most = (end - start).min(BLOCK_BYTES as u64) as usize;
            let len = read_at(file, &mut block[..most], start)?;
            for (place, bytes) in (start..).step_by(RECORD_BYTES).zip(block[..len].chunks(RECORD_BYTES)) {
                if bytes.iter().all(|byte| *byte == 0) {
                    continue;
                }
                found = Found::Bytes;
                if bytes.len() == FRAME_HEADER_BYTES && is_frame(file, place, bytes, &mut payload, frame_seed, first_sequence)? {
                    return Ok(Found::Frame(place));
                }
            }
            if len < most {
                return Ok(found);
            }
            start += len as u64;
        }
    }
    Ok(found)
}

/// Where anything was ever written from `offset` on, in whole records. Most of a segment is reserved and was not: to read that
/// would bring its zeros into memory, page by page. All places are asked for before one is read, because what the machine reads
/// ahead counts as written.
fn written(file: &File, offset: u64) -> Result<Vec<Range<u64>>, Error> {
    const RECORD: u64 = RECORD_BYTES as u64;
    let (mut ranges, mut from) = (Vec::<Range<u64>>::new(), offset);
    loop {
        let start = match lseek(file, from as i64, Whence::SeekData) {
            Ok(data) => data as u64,
            Err(Errno::ENXIO) => return Ok(ranges),
            // A file system that does not know: all of it.
            Err(Errno::EINVAL | Errno::EOPNOTSUPP) => {
                ranges.push(from..u64::MAX);
                return Ok(ranges);
            }
            Err(error) => return Err(error.into()),
        };
        from = lseek(file, start as i64, Whence::SeekHole)? as u64;
        let start = offset + (start - offset) / RECORD * RECORD;
        ranges.push(start.max(ranges.last().map_or(0, |last| last.end))..offset + (from - offset).next_multiple_of(RECORD));
    }
}

fn is_frame(file: &File, offset: u64, bytes: &[u8], payload: &mut [u8], frame_seed: u32, first_sequence: u64) -> Result<bool, Error> {
    let header: FrameHeader = bytemuck::pod_read_unaligned(bytes);
    let length = header.payload_bytes as usize;
    if length > PAYLOAD_BYTES_MAX || !length.is_multiple_of(RECORD_BYTES) || header.first_sequence.min(header.durable_upto) < first_sequence
    {
        return Ok(false);
    }
    let whole = read_at(file, &mut payload[..length], offset + FRAME_HEADER_BYTES as u64)? == length;
    Ok(whole && frame_crc(frame_seed, &header, &payload[..length]) == header.crc32c)
}

/// Reads as much as there is.
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<usize, Error> {
    let mut len = 0;
    while len < bytes.len() {
        let more = len + world::readable(bytes.len() - len);
        match file.read_at(&mut bytes[len..more], offset + len as u64)? {
            0 => break,
            more => len += more,
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;
    use nix::fcntl::{FallocateFlags, fallocate};

    use super::*;

    const SEED: u32 = 7;
    const LEN: u64 = 4 << 20;

    /// A file of which room was reserved and nothing was written.
    fn reserved() -> File {
        let file = tempfile::tempfile().unwrap();
        fallocate(&file, FallocateFlags::empty(), 0, LEN as i64).unwrap();
        file
    }

    fn frame(first_sequence: u64, durable_upto: u64) -> Vec<u8> {
        let payload = [5; RECORD_BYTES];
        let mut header = FrameHeader { payload_bytes: RECORD_BYTES as u32, first_sequence, durable_upto, ..FrameHeader::zeroed() };
        header.crc32c = frame_crc(SEED, &header, &payload);
        [bytemuck::bytes_of(&header), &payload].concat()
    }

    #[test]
    fn a_frame_is_found_behind_what_was_never_written_and_on_either_side_of_its_edges() {
        // Pages and blocks of reading begin and end at some of these.
        for place in [64, 4096 - 64, 4096, BLOCK_BYTES as u64 - 64, BLOCK_BYTES as u64, 3 * BLOCK_BYTES as u64 + 64, LEN - 128] {
            for offset in [0, 64, 192].into_iter().filter(|offset| *offset <= place) {
                let file = reserved();
                file.write_all_at(&[1], LEN / 2).unwrap();
                file.write_all_at(&frame(9, 9), place).unwrap();
                assert_eq!(search(&file, offset, SEED, 9).unwrap(), Found::Frame(place), "from {offset}");
                assert_eq!(search(&file, place + 64, SEED, 9).unwrap(), Found::Bytes, "of a frame's payload");
                assert_eq!(search(&file, offset, SEED, 10).unwrap(), Found::Bytes, "a frame of an earlier number");
                assert_eq!(search(&file, offset, SEED + 1, 9).unwrap(), Found::Bytes, "a frame of another segment");
            }
        }
    }

    #[test]
    fn nothing_is_found_where_nothing_was_written_or_zeros_only() {
        let file = reserved();
        assert_eq!(search(&file, 64, SEED, 1).unwrap(), Found::Nothing);
        file.write_all_at(&[0; 8192], 1 << 20).unwrap();
        assert_eq!(search(&file, 64, SEED, 1).unwrap(), Found::Nothing);
        file.write_all_at(&[1], LEN - 1).unwrap();
        assert_eq!(search(&file, 64, SEED, 1).unwrap(), Found::Bytes);
        assert_eq!(search(&file, LEN, SEED, 1).unwrap(), Found::Nothing);
    }
}
