//! `[metrics]`: where the metrics can be scraped.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::Wrong;

/// `[metrics]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Path of a Unix socket that answers `GET /metrics`; none: there is none.
    pub socket: Option<PathBuf>,
    /// Loopback address and port that do the same.
    pub listen: Option<SocketAddr>,
}

impl MetricsConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        match self.listen {
            Some(listen) if !listen.ip().is_loopback() => Err(Wrong::new(
                "metrics.listen",
                format!("{listen} is no loopback address, and metrics are not encrypted; use 127.0.0.1:PORT and a proxy"),
            )),
            _ => Ok(()),
        }
    }
}
