//! Where every shared byte of Ringlane sits: records, regions, cursors, and the ring protocol over them.
//! No file descriptor, no mapping call and no rule about orders enters this crate. `PROTOCOL.md` says the same in words.

pub mod board;
pub mod client;
pub mod entries;
pub mod field;
pub mod limits;
pub mod lookout;
pub mod market;
pub mod order_codes;
pub mod orders;
pub mod patience;
pub mod primitive;
pub mod record;
pub mod region;
pub mod ring;
pub mod schema;
pub mod shared;
pub mod slots;

use record::{EnumSchema, RecordSchema};

/// The records of every lane kind that this build knows, for those who pass schemas on without reading them.
pub fn records() -> impl Iterator<Item = &'static RecordSchema> {
    orders::RECORDS.iter().chain(market::RECORDS).copied()
}

/// The enums of every lane kind that this build knows, and of lanes themselves.
pub fn enums() -> impl Iterator<Item = &'static EnumSchema> {
    orders::ENUMS.iter().chain(market::ENUMS).copied().chain([region::LaneStatus::SCHEMA])
}

/// A number that changes whenever a source line of the layout, the sidecar or the shim changes: a shim and a sidecar of
/// different builds are told apart by it.
pub const BUILD_HASH: &str = env!("RINGLANE_BUILD_HASH");
