//! `[traces]`: where spans go.

use serde::Deserialize;

use super::Wrong;

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
            Some(endpoint) if !endpoint.starts_with("http://") || endpoint.len() == "http://".len() => {
                wrong(format!("{endpoint:?} is no http:// address; use a collector on this host, such as http://127.0.0.1:4318"))
            }
            _ => Ok(()),
        }
    }
}
