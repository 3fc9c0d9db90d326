//! The Ringlane sidecar as a library: each module is one room of the design, and `kernels` is usable on its own.

pub mod kernels;
