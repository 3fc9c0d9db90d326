//! `[log]`: what the sidecar tells, and in which form.

use serde::Deserialize;
use tracing_subscriber::filter::{LevelFilter, Targets};

use super::Wrong;

/// What is told when neither the file nor `RINGLANE_LOG` says it.
const LEVEL: &str = "warn";

/// `[log]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Form of a line.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, and if need be others for single modules:
    /// `warn,ringlane_sidecar::journal=debug`. None: `RINGLANE_LOG`, else `warn`.
    pub level: Option<String>,
}

/// Form of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// The journal's fields where systemd's journal takes the standard error, lines for people elsewhere.
    #[default]
    Auto,
    /// Lines for people on the standard error.
    Human,
    /// One JSON object a line on the standard error.
    Json,
    /// Fields for systemd's journal.
    Journald,
}

impl LogConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        let level = self.level.as_deref().map_or(Ok(()), |level| targets(level).map(drop));
        level.map_err(|words| Wrong::new("log.level", words))
    }

    /// What is told: by the file, else by the environment, else warnings and errors.
    pub fn targets(&self) -> Targets {
        let named = self.level.clone().or_else(|| std::env::var("RINGLANE_LOG").ok());
        named.and_then(|level| targets(&level).ok()).unwrap_or_else(|| Targets::new().with_default(LevelFilter::WARN))
    }

    /// Its level in words.
    #[must_use]
    pub fn level_words(&self) -> String {
        self.level.clone().or_else(|| std::env::var("RINGLANE_LOG").ok()).unwrap_or_else(|| LEVEL.into())
    }
}

/// Reads `LEVEL` and `MODULE=LEVEL`, separated by commas. A word that is no level is an error, not a module of that name.
fn targets(text: &str) -> Result<Targets, String> {
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim) {
        let (module, level) = part.rsplit_once('=').map_or((None, part), |(module, level)| (Some(module), level));
        let known = !level.is_empty() && !level.bytes().all(|byte| byte.is_ascii_digit());
        let level: LevelFilter = level.parse().ok().filter(|_| known).ok_or_else(|| {
            format!("{level:?} is no level; use off, error, warn, info, debug or trace, and MODULE=LEVEL for single modules")
        })?;
        targets = match module {
            Some(module) => targets.with_target(module, level),
            None => targets.with_default(level),
        };
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn levels_are_read_and_other_words_are_refused() {
        let found = targets("warn, ringlane_sidecar::journal=debug").unwrap();
        assert!(found.would_enable("ringlane_sidecar::journal::supply", &Level::DEBUG));
        assert!(!found.would_enable("ringlane_sidecar::control", &Level::INFO) && found.would_enable("x", &Level::WARN));
        for wrong in ["", "wran", "info,", "a=loud", "3"] {
            assert!(targets(wrong).is_err(), "{wrong:?}");
        }
    }
}
