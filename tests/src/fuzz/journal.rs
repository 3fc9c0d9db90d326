//! Whatever stands in a file that is called a recording, reading and replaying it end in words or in a state. The input is
//! taken twice: as the file, and as frames to which right checksums are given, so that their contents are reached.

use ringlane_layout::orders::{AccountLimits, Instrument, OrderRequest, Side};
use ringlane_layout::record::{Record, RecordBytes};
use ringlane_sidecar::engine::{ENGINE_VERSION, Engine};
use ringlane_sidecar::journal::{
    FORMAT_VERSION, FRAMES_OFFSET, Frame, FrameHeader, FrameKind, LaneClose, LaneOpen, RESERVE_MAGIC, RESERVE_OFFSET, Reader,
    SEGMENT_MAGIC, SegmentHeader, SegmentReserve, frame_crc, reserve_crc, schema_hash, segment_crc,
};
use ringlane_sidecar::replay::replay;

use super::{Target, scratch};
use crate::order_pair::{instrument, limit};

/// The target.
pub const TARGET: Target = Target { name: "journal", run, seeds };

const FRAME_SEED: u32 = 7;

/// A segment's first page of that format.
fn first_page(format_version: u32) -> Vec<u8> {
    let mut header = SegmentHeader {
        magic: SEGMENT_MAGIC,
        format_version,
        engine_version: ENGINE_VERSION,
        epoch: 1,
        index: 1,
        first_sequence: 1,
        request_schema_hash: OrderRequest::SCHEMA_HASH,
        frame_seed: FRAME_SEED,
        ..SegmentHeader::default()
    };
    header.crc32c = segment_crc(&header);
    let mut page = vec![0; FRAMES_OFFSET];
    page[..size_of::<SegmentHeader>()].copy_from_slice(bytemuck::bytes_of(&header));
    if format_version > 1 {
        let mut reserve =
            SegmentReserve { magic: RESERVE_MAGIC, format_version, frame_seed: FRAME_SEED, index: 1, ..SegmentReserve::default() };
        reserve.crc32c = reserve_crc(&reserve);
        page[RESERVE_OFFSET..][..size_of::<SegmentReserve>()].copy_from_slice(bytemuck::bytes_of(&reserve));
    }
    page
}

/// A segment of frames: each takes a byte for its kind, one for its records, and the records; an engine that goes along gives
/// each its number and the hash of the outputs before it. The format is told by how many bytes there are.
fn sealed(mut bytes: &[u8]) -> Vec<u8> {
    let mut file = first_page(if bytes.len() % 4 == 1 { 1 } else { FORMAT_VERSION });
    let mut engine = Engine::new(7);
    while let [kind, count, rest @ ..] = bytes {
        let length = (usize::from(count % 4) * 64).min(rest.len() / 64 * 64);
        let (payload, behind) = rest.split_at(length);
        bytes = behind;
        let mut header = FrameHeader {
            payload_bytes: length as u32,
            first_sequence: engine.next_sequence(),
            output_hash: engine.output_hash(),
            kind: *kind,
            lane: u32::from(*count) / 64,
            ..FrameHeader::default()
        };
        let known = FrameKind::try_from(*kind);
        header.schema_hash = known.ok().and_then(schema_hash).unwrap_or_default();
        header.crc32c = frame_crc(FRAME_SEED, &header, payload);
        file.extend_from_slice(bytemuck::bytes_of(&header));
        file.extend_from_slice(payload);
        let records: Vec<RecordBytes> = payload.chunks_exact(64).map(bytemuck::pod_read_unaligned).collect();
        let went = known.map(|kind| engine.apply(&Frame { header, kind, engine_version: ENGINE_VERSION, records: &records, voids: &[] }));
        if !matches!(went, Ok(Ok(()))) {
            // Nothing behind it is read: the rest as it is.
            file.extend_from_slice(bytes);
            break;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise whatever the input is, it ends at the first page.
    #[test]
    fn the_seeds_are_replayed_to_their_end() {
        let seed = seeds().swap_remove(0);
        let path = scratch("journal-seeds").join("00000001.ringlane");
        for (seed, format) in [(seed.clone(), FORMAT_VERSION), ([&seed[..], &[0; 3]].concat(), 1)] {
            let file = sealed(&seed);
            let version = bytemuck::pod_read_unaligned::<SegmentHeader>(&file[..size_of::<SegmentHeader>()]).format_version;
            assert_eq!(version, format, "{} bytes", seed.len());
            std::fs::write(&path, &file).expect("room for the seed");
            let mut engine = Engine::new(7);
            let _ = replay(&path, &mut engine, |_| {});
            assert_eq!((engine.orders.counters().accepted, engine.orders.counters().trades), (2, 1), "format {format}");
        }
        super::super::clean("journal-seeds");
    }
}
