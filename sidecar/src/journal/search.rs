//! What stands behind the last whole frame of a segment: nothing, the remains of a frame, or whole frames.

use std::fs::File;
use std::io::Error;
use std::os::unix::fs::FileExt;

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
/// that the journal was durable there. Frames behind a torn one that say less were being written together with it.
pub fn search(file: &File, mut offset: u64, frame_seed: u32, first_sequence: u64) -> Result<Found, Error> {
    let (mut block, mut payload) = (vec![0; BLOCK_BYTES], vec![0; PAYLOAD_BYTES_MAX]);
    let mut found = Found::Nothing;
    loop {
        let len = read_at(file, &mut block, offset)?;
        for (place, bytes) in (offset..).step_by(RECORD_BYTES).zip(block[..len].chunks(RECORD_BYTES)) {
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            found = Found::Bytes;
            if bytes.len() == FRAME_HEADER_BYTES && is_frame(file, place, bytes, &mut payload, frame_seed, first_sequence)? {
                return Ok(Found::Frame(place));
            }
        }
        if len < BLOCK_BYTES {
            return Ok(found);
        }
        offset += len as u64;
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
