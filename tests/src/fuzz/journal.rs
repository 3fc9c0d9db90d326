//! Whatever stands in a file that is called a recording, reading and replaying it end in words or in a state. The input is
//! taken twice: as the file, and as frames to which right checksums are given, so that their contents are reached.

use ringlane_layout::orders::{AccountLimits, Instrument, OrderRequest, Side};
use ringlane_layout::record::Record;
use ringlane_sidecar::engine::{ENGINE_VERSION, Engine};
use ringlane_sidecar::journal::{
    FORMAT_VERSION, FRAMES_OFFSET, FrameHeader, FrameKind, LaneClose, LaneOpen, Reader, SEGMENT_MAGIC, SegmentHeader, frame_crc,
    schema_hash, segment_crc,
};
use ringlane_sidecar::replay::replay;

use super::{Target, scratch};
use crate::order_pair::{instrument, limit};

/// The target.
pub const TARGET: Target = Target { name: "journal", run, seeds };

const FRAME_SEED: u32 = 7;

/// A segment of frames: each takes a byte for its kind, one for its records, and the records.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let mut header = SegmentHeader {
        magic: SEGMENT_MAGIC,
        format_version: FORMAT_VERSION,
        engine_version: ENGINE_VERSION,
        epoch: 1,
        index: 1,
        first_sequence: 1,
        request_schema_hash: OrderRequest::SCHEMA_HASH,
        frame_seed: FRAME_SEED,
        ..SegmentHeader::default()
    };
    header.crc32c = segment_crc(&header);
    let mut file = vec![0; FRAMES_OFFSET];
    file[..size_of::<SegmentHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
    let mut first_sequence = 1;
    while let [kind, count, rest @ ..] = bytes {
        let length = (usize::from(count % 4) * 64).min(rest.len() / 64 * 64);
        let (payload, behind) = rest.split_at(length);
        bytes = behind;
        let mut header = FrameHeader {
            payload_bytes: length as u32,
            first_sequence,
            kind: *kind,
            lane: u32::from(*count) / 64,
            ..FrameHeader::default()
        };
        header.schema_hash = FrameKind::try_from(*kind).ok().and_then(schema_hash).unwrap_or_default();
        header.crc32c = frame_crc(FRAME_SEED, &header, payload);
        file.extend_from_slice(bytemuck::bytes_of(&header));
        file.extend_from_slice(payload);
        first_sequence += (length / 64) as u64;
    }
    file
}

fn run(bytes: &[u8]) {
    let path = scratch(TARGET.name).join("00000001.ringlane");
    for file in [bytes.to_vec(), sealed(bytes)] {
        std::fs::write(&path, &file).expect("room in memory");
        if let Ok(mut reader) = Reader::open(&path) {
            let mut frames = 0;
            while let Ok(Some(_)) = reader.next_frame() {
                frames += 1;
                assert!(frames <= file.len() / 64, "more frames than fit into the file");
            }
        }
        let mut engine = Engine::new(7);
        if replay(&path, &mut engine, |_| {}).is_ok() {
            let _ = engine.orders.state_hash();
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let frame = |kind: FrameKind, records: &[u8]| [&[kind as u8, 64 + (records.len() / 64) as u8][..], records].concat();
    let instrument = instrument(1, 1, 1, 0);
    let accounts = AccountLimits { account_first: 1, account_last: 9, position_max: 100, ..AccountLimits::default() };
    let open = LaneOpen { lane: 1, account_first: 1, account_last: 9, ..LaneOpen::default() };
    let close = LaneClose { lane: 1, cancel_orders: 1, ..LaneClose::default() };
    let orders = [limit(Side::Buy, 1, 1, 100, 5), limit(Side::Sell, 2, 1, 100, 3)];
    let all = [
        frame(FrameKind::Instruments, bytemuck::bytes_of::<Instrument>(&instrument)),
        frame(FrameKind::Accounts, bytemuck::bytes_of(&accounts)),
        frame(FrameKind::LaneOpen, bytemuck::bytes_of(&open)),
        frame(FrameKind::Orders, bytemuck::cast_slice(&orders)),
        frame(FrameKind::LaneClose, bytemuck::bytes_of(&close)),
    ];
    vec![all.concat(), sealed(&all.concat()), sealed(&[])]
}
