//! A look at slots: numpy arrays over a ring hold one, and the slots are not reused while one lives.

use crate::lane::Exchange;
use crate::region::DoubleRing;
use crate::slots::Serial;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::Arc;

/// Slots `first..first + count` of one ring, as memory that numpy can view. (The buffer protocol is not part of the stable
/// interface of Python 3.10; numpy's own array interface is.)
#[pyclass(frozen, weakref, module = "ringlane._shim")]
pub struct Lease {
    pub exchange: Arc<Exchange>,
    pub ring: Arc<DoubleRing>,
    /// `None`: a look that pins nothing, for the package's own copies into slots that it has reserved.
    pub serial: Option<Serial>,
    #[pyo3(get)]
    pub first: u64,
    #[pyo3(get)]
    pub count: u64,
}

#[pymethods]
impl Lease {
    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let address = self.ring.bytes().address(self.ring.offset(self.first)) as usize;
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", "|V64")?;
        interface.set_item("shape", (self.count,))?;
        interface.set_item("data", (address, !self.ring.is_writable()))?;
        Ok(interface)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(serial) = self.serial {
            self.exchange.unpin(serial);
        }
    }
}
