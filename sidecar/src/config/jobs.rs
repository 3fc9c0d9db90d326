//! `[jobs]`: the threads that run kernels other than that of orders.

use serde::Deserialize;

use super::Wrong;

/// `[jobs]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobsConfig {
    /// Threads at most; as many as there are cores when absent.
    pub threads: Option<usize>,
}

/// Most threads that can be configured.
const THREADS_MAX: usize = 1024;

impl JobsConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        match self.threads {
            Some(threads) if !(1..=THREADS_MAX).contains(&threads) => {
                Err(Wrong::new("jobs.threads", format!("it must be 1 to {THREADS_MAX}")))
            }
            _ => Ok(()),
        }
    }
}
