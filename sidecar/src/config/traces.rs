//! `[traces]`: where spans go.

use serde::Deserialize;

use super::{Wrong, scheme_of};

/// `[traces]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracesConfig {
    /// Address of an OpenTelemetry collector that takes OTLP over HTTP; none: nothing is traced.
    pub endpoint: Option<String>,
}

impl TracesConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let wrong = |words: String| Err(Wrong::new("traces.endpoint", words));
        match &self.endpoint {
            Some(_) if !cfg!(feature = "otel") => wrong("this ringlane was built without the feature `otel`".into()),
            Some(endpoint) if scheme_of(endpoint).is_none() => {
                wrong(format!("{endpoint:?} is no http:// or https:// address, such as http://127.0.0.1:4318 of a collector on this host"))
            }
            _ => Ok(()),
        }
    }
}
