//! Where every shared byte of Ringlane sits: records, regions, cursors, and the ring protocol over them.
//! No system call, no file descriptor and no rule about orders enters this crate. `PROTOCOL.md` says the same in words.

pub mod board;
pub mod limits;
pub mod orders;
pub mod primitive;
pub mod record;
pub mod region;
pub mod ring;
pub mod shared;

/// The records and enums of every lane kind that this build knows, for those who pass schemas on without reading them.
pub use orders::{ENUMS, RECORDS};

/// A number that changes whenever a source line of the layout, the sidecar or the shim changes: a shim and a sidecar of
/// different builds are told apart by it.
pub const BUILD_HASH: &str = env!("RINGLANE_BUILD_HASH");
