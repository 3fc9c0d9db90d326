//! The one map from what can end a lane to the exception that Python sees. Messages say what happened and what to do.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use ringlane_layout::region::LaneStatus;

pyo3::create_exception!(ringlane, RinglaneError, PyException, "Base of every error that Ringlane raises itself.");
pyo3::create_exception!(ringlane, SidecarUnavailable, RinglaneError, "No sidecar answers, or it refused the request.");
pyo3::create_exception!(ringlane, SidecarLost, RinglaneError, "The sidecar ended, or this process is a fork of the one that connected.");
pyo3::create_exception!(ringlane, LaneFull, RinglaneError, "Every slot is in use; the message names the range that is held.");
pyo3::create_exception!(ringlane, LaneFaulted, RinglaneError, "The sidecar closed this lane; the message says which rule was broken.");
pyo3::create_exception!(ringlane, SchemaMismatch, RinglaneError, "Sidecar and client do not agree on a layout.");

/// Why a lane takes no more work. Small, because waiters look for it without the GIL and often throw it away.
pub enum End {
    /// This process is a fork; the lane belongs to the process with this id.
    Forked(u32),
    /// `close` was called.
    Closed,
    /// The sidecar's end of the notify socket is closed.
    Lost,
    /// The lane's status word.
    Faulted(u64),
}

impl From<End> for PyErr {
    #[cold]
    fn from(end: End) -> Self {
        match end {
            End::Forked(pid) => SidecarLost::new_err(format!(
                "this lane belongs to process {pid}, and this is a fork of it (process {}); connect anew, or use ringlane.shared(), which does so by itself",
                std::process::id()
            )),
            End::Closed => RinglaneError::new_err("this lane is closed; open it anew with client.open()"),
            End::Lost => SidecarLost::new_err(
                "the sidecar ended; results that were completed before stay readable, everything else must be asked anew after a new connect()",
            ),
            End::Faulted(status) if status == LaneStatus::ShuttingDown as u64 => SidecarLost::new_err(LaneStatus::words(status)),
            End::Faulted(status) => LaneFaulted::new_err(LaneStatus::words(status)),
        }
    }
}
