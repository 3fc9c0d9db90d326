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

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::fork::install()?;
        module.add("BUILD_HASH", ringlane_layout::BUILD_HASH)?;
        module.add("LAYOUT_VERSION", limits::LAYOUT_VERSION)?;
        module.add("CONTROL_MESSAGE_BYTES_MAX", limits::CONTROL_MESSAGE_BYTES_MAX)?;
        module.add("CONTROL_FDS_MAX", limits::CONTROL_FDS_MAX)?;
        module.add("DEPTH_SLOTS_MAX", limits::DEPTH_SLOTS_MAX)?;
        module.add("ENUMS", ringlane_layout::enums().map(|schema| schema.plain()).collect::<Vec<_>>())?;
        module.add("RECORDS", ringlane_layout::records().map(|schema| schema.plain()).collect::<Vec<_>>())
    }
}
