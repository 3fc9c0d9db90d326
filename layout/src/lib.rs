//! Where every shared byte of Ringlane sits: records, regions, cursors, and the ring protocol over them.
//! No system call, no file descriptor and no rule about orders enters this crate. `PROTOCOL.md` says the same in words.

pub mod limits;
pub mod orders;
pub mod record;
