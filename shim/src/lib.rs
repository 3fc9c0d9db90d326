//! The extension module `ringlane._shim`: shared memory, cursors and waiting for Python. It knows bytes, slots and fields;
//! what a record means, JSON and the control socket never enter here (the package around it has them).
//!
//! `unsafe` stands only in `region.rs` (mapping), `fork.rs` (the child handler), `descriptor.rs` (adopting descriptors)
//! and `call.rs` (the one function that speaks CPython's C interface directly).

mod call;
mod describe;
mod descriptor;
mod error;
mod field;
mod fork;
mod gil;
mod lane;
mod lease;
mod region;
mod slots;
mod wait;

use pyo3::prelude::*;

#[pymodule]
fn _shim(module: &Bound<'_, PyModule>) -> PyResult<()> {
    fork::install()?;
    error::register(module)?;
    describe::register(module)?;
    module.add("BUILD_HASH", ringlane_layout::BUILD_HASH)?;
    module.add("LAYOUT_VERSION", ringlane_layout::limits::LAYOUT_VERSION)?;
    module.add("CONTROL_MESSAGE_BYTES_MAX", ringlane_layout::limits::CONTROL_MESSAGE_BYTES_MAX)?;
    module.add("CONTROL_FDS_MAX", ringlane_layout::limits::CONTROL_FDS_MAX)?;
    module.add("DEPTH_SLOTS_MAX", ringlane_layout::limits::DEPTH_SLOTS_MAX)?;
    module.add_class::<lane::Lane>()?;
    module.add_class::<lease::Lease>()?;
    module.add_class::<wait::Hub>()?;
    module.add_class::<wait::Watch>()
}
