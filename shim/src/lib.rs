//! The extension module `ringlane._shim`: shared memory, cursors and waiting for Python. It knows bytes, slots and fields;
//! what a record means, JSON and the control socket never enter here (the package around it has them), and the protocol over
//! the shared bytes is the layout crate's.

mod call;
mod error;
mod fork;
mod hub;
mod lane;
mod region;
mod wait;

/// What Python sees. Schemas are passed on as plain data, whatever they are.
#[pyo3::pymodule]
mod _shim {
    use pyo3::prelude::*;
    use ringlane_layout::limits;

    #[pymodule_export]
    use crate::error::{LaneFaulted, LaneFull, RinglaneError, SchemaMismatch, SidecarLost, SidecarUnavailable};
    #[pymodule_export]
    use crate::{hub::Hub, lane::Hold, lane::Lane, lane::Lease};

    #[pymodule_export]
    const BUILD_HASH: &str = ringlane_layout::BUILD_HASH;
    #[pymodule_export]
    const LAYOUT_VERSION: u32 = limits::LAYOUT_VERSION;
    #[pymodule_export]
    const CONTROL_MESSAGE_BYTES_MAX: usize = limits::CONTROL_MESSAGE_BYTES_MAX;
    #[pymodule_export]
    const CONTROL_FDS_MAX: usize = limits::CONTROL_FDS_MAX;
    #[pymodule_export]
    const DEPTH_SLOTS_MAX: u64 = limits::DEPTH_SLOTS_MAX;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::fork::install()?;
        module.add("ENUMS", ringlane_layout::enums().map(|schema| schema.plain()).collect::<Vec<_>>())?;
        module.add("RECORDS", ringlane_layout::records().map(|schema| schema.plain()).collect::<Vec<_>>())
    }
}
