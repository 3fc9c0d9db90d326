//! `[sentry]`: where errors of the sidecar are reported.

use serde::Deserialize;

use super::{Wrong, scheme_of};

/// `[sentry]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SentryConfig {
    /// `https://KEY@HOST[:PORT]/PROJECT` of a Sentry or a Relay, or the same with `http`; none: nothing is reported.
    pub dsn: Option<String>,
    /// Which installation it is, in Sentry's word.
    pub environment: String,
    /// Faults of lanes within a minute above which they are reported, as one event a minute.
    pub faults_per_minute: u64,
}

impl Default for SentryConfig {
    fn default() -> Self {
        Self { dsn: None, environment: "production".into(), faults_per_minute: 10 }
    }
}

/// A DSN, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dsn {
    /// Where envelopes go.
    pub url: String,
    /// The public key.
    pub key: String,
}

impl Dsn {
    /// Reads `https://KEY@HOST[:PORT]/[PATH/]PROJECT`, or the same with `http`; none when it is something else.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (scheme, rest) = scheme_of(text)?;
        let (key, place) = rest.split_once('@')?;
        let (host, project) = place.rsplit_once('/')?;
        let (host, path) = host.split_once('/').map_or((host, String::new()), |(host, path)| (host, format!("/{path}")));
        let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let is_project = !project.is_empty() && project.bytes().all(|byte| byte.is_ascii_digit());
        (is_key && is_project && !host.is_empty())
            .then(|| Self { url: format!("{scheme}{host}{path}/api/{project}/envelope/"), key: key.into() })
    }
}

impl SentryConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let wrong = |words: &str| Err(Wrong::new("sentry.dsn", words));
        match &self.dsn {
            Some(_) if !cfg!(feature = "sentry") => wrong("this ringlane was built without the feature `sentry`"),
            Some(dsn) if Dsn::read(dsn).is_none() => wrong("it must be https://KEY@HOST/PROJECT, of a Sentry or a Relay (or http://)"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_is_read_and_other_words_are_refused() {
        let dsn = Dsn::read("http://abc123@127.0.0.1:3000/42").unwrap();
        assert_eq!((dsn.url.as_str(), dsn.key.as_str()), ("http://127.0.0.1:3000/api/42/envelope/", "abc123"));
        assert_eq!(Dsn::read("http://k@relay/a/b/7").unwrap().url, "http://relay/a/b/api/7/envelope/");
        assert_eq!(Dsn::read("https://k@o1.ingest.sentry.io/7").unwrap().url, "https://o1.ingest.sentry.io/api/7/envelope/");
        for wrong in ["", "ftp://k@h/1", "http://h/1", "http://@h/1", "http://k@h", "http://k@h/x", "http://k:s@h/1", "http://k@/1"] {
            assert_eq!(Dsn::read(wrong), None, "{wrong:?}");
        }
    }
}
