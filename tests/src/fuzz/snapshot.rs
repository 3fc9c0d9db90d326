//! Whatever stands in a file that is called a snapshot, reading it ends in words or in a state. A right hash is given to the
//! input, so that its sections are reached.

use std::path::Path;

use ringlane_layout::orders::Side;
use ringlane_sidecar::engine::Engine;
use ringlane_sidecar::image::{Image, restore};
use ringlane_sidecar::journal::{LaneOpen, Snapshot, SnapshotHeader, SnapshotWriter, list_snapshots};
use ringlane_sidecar::kernels::orders::Frozen;
use xxhash_rust::xxh3::xxh3_64;

use super::{Target, scratch};
use crate::order_pair::{instrument, limit};

/// The target.
pub const TARGET: Target = Target { name: "snapshot", run, seeds };

const TRAILER_BYTES: usize = 64;

fn run(bytes: &[u8]) {
    let path = scratch(TARGET.name).join("input.snapshot");
    for file in [bytes.to_vec(), resealed(bytes)] {
        std::fs::write(&path, &file).expect("room for a snapshot");
        read(&path);
    }
}

fn read(path: &Path) {
    if let Ok(snapshot) = Snapshot::read(path) {
        let mut engine = Engine::new(7);
        if restore(&mut engine, &snapshot).is_ok() {
            assert_eq!(engine.orders.state_hash(), snapshot.header.state_hash);
        }
    }
}

/// With a trailer whose length and hash are right.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut file = bytes.to_vec();
    if let Some(end) = file.len().checked_sub(TRAILER_BYTES) {
        let (length, hash) = (file.len() as u64, xxh3_64(&file[..end]));
        file[end + 8..end + 16].copy_from_slice(&length.to_le_bytes());
        file[end + 16..end + 24].copy_from_slice(&hash.to_le_bytes());
    }
    file
}

fn seeds() -> Vec<Vec<u8>> {
    let directory = scratch("snapshot-seed");
    let mut engine = Engine::new(7);
    engine.add_instrument(&instrument(1, 1, 1, 0)).expect("a right instrument");
    let open = LaneOpen { lane: 1, account_first: 1, account_last: 9, ..LaneOpen::default() };
    engine.open_lane(&open);
    let orders = [limit(Side::Buy, 1, 1, 100, 5), limit(Side::Sell, 2, 1, 100, 3), limit(Side::Sell, 3, 4, 110, 3)];
    engine.process_orders(1, &orders.map(bytemuck::must_cast));
    let header = SnapshotHeader {
        sequence: engine.next_sequence() - 1,
        output_hash: engine.output_hash(),
        state_hash: engine.orders.state_hash(),
        ..SnapshotHeader::default()
    };
    let image = Image::of(&engine, Frozen::prepare(engine.orders.copy_size()), Vec::new());
    let mut writer = SnapshotWriter::create(&directory, &header).expect("a snapshot");
    image.write(&mut writer).expect("its sections");
    writer.finish().expect("its end");
    let (_, path) = list_snapshots(&directory).pop().expect("the snapshot");
    let bytes = std::fs::read(&path).expect("its bytes");
    assert!(resealed(&bytes) == bytes, "the trailer's places are as above");
    restore(&mut Engine::new(9), &Snapshot::read(&path).expect("a snapshot")).expect("it can be restored");
    super::clean("snapshot-seed");
    vec![bytes]
}
