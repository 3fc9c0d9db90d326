//! The one map from what can go wrong to the exception that Python sees. Messages say what happened and what to do.

use pyo3::exceptions::{PyException, PyTimeoutError};
use pyo3::prelude::*;
use ringlane_layout::region::LaneStatus;

pyo3::create_exception!(ringlane, RinglaneError, PyException, "Base of every error that Ringlane raises itself.");
pyo3::create_exception!(ringlane, SidecarUnavailable, RinglaneError, "No sidecar answers, or it refused the request.");
pyo3::create_exception!(ringlane, SidecarLost, RinglaneError, "The sidecar ended, or this process is a fork of the one that connected.");
pyo3::create_exception!(ringlane, LaneFull, RinglaneError, "Every slot is in use; the message names the range that is held.");
pyo3::create_exception!(ringlane, LaneFaulted, RinglaneError, "The sidecar closed this lane; the message says which rule was broken.");
pyo3::create_exception!(ringlane, SchemaMismatch, RinglaneError, "Sidecar and client do not agree on a layout.");

/// Adds the exceptions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add("RinglaneError", py.get_type::<RinglaneError>())?;
    module.add("SidecarUnavailable", py.get_type::<SidecarUnavailable>())?;
    module.add("SidecarLost", py.get_type::<SidecarLost>())?;
    module.add("LaneFull", py.get_type::<LaneFull>())?;
    module.add("LaneFaulted", py.get_type::<LaneFaulted>())?;
    module.add("SchemaMismatch", py.get_type::<SchemaMismatch>())
}

/// Everything that a lane's work can end in besides success.
pub enum Trouble {
    /// This process is a fork; the lane belongs to the process with this id.
    Forked(u32),
    /// `close` was called.
    Closed,
    /// The sidecar's end of the notify socket is closed.
    Lost,
    /// The lane's status word.
    Faulted(u64),
    /// The deadline passed; what was waited for.
    Timeout(String),
    /// No free slots; who holds them.
    Full(String),
    /// The caller broke a rule of this interface.
    Misuse(String),
    /// The other side's words do not fit the layout.
    Mismatch(String),
    /// A system call failed, or Python raised (Ctrl-C).
    Raised(PyErr),
}

impl From<PyErr> for Trouble {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<nix::Error> for Trouble {
    fn from(error: nix::Error) -> Self {
        Self::Raised(std::io::Error::from(error).into())
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Raised(error.into())
    }
}

fn status_error(status: u64) -> PyErr {
    let known = LaneStatus::SCHEMA.members.iter().find(|member| member.value == status);
    let words = known.map_or_else(
        || format!("the sidecar closed this lane with status {status}, which this build does not know"),
        |member| format!("the sidecar closed this lane: {} ({status}). {}", member.name, member.doc),
    );
    if status == LaneStatus::ShuttingDown as u64 { SidecarLost::new_err(words) } else { LaneFaulted::new_err(words) }
}

impl From<Trouble> for PyErr {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Forked(pid) => SidecarLost::new_err(format!(
                "this lane belongs to process {pid}, and this is a fork of it (process {}); connect anew, or use ringlane.shared(), which does so by itself",
                std::process::id()
            )),
            Trouble::Closed => RinglaneError::new_err("this lane is closed; open it anew with client.open()"),
            Trouble::Lost => SidecarLost::new_err(
                "the sidecar ended; results that were completed before stay readable, everything else must be asked anew after a new connect()",
            ),
            Trouble::Faulted(status) => status_error(status),
            Trouble::Timeout(words) => PyTimeoutError::new_err(words),
            Trouble::Full(words) => LaneFull::new_err(words),
            Trouble::Misuse(words) => RinglaneError::new_err(words),
            Trouble::Mismatch(words) => SchemaMismatch::new_err(words),
            Trouble::Raised(error) => error,
        }
    }
}
