//! The log: lines for people, JSON lines, or fields for systemd's journal, at a level that can change while it runs. There is
//! no line for an order: what happens often is counted on the board.

use std::io::{IsTerminal, stderr};
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{LogConfig, LogFormat};

/// What is told, to be changed while it runs.
static LEVEL: OnceLock<Handle<Targets, Registry>> = OnceLock::new();

/// Starts the log. An error says why a form cannot be had; a second start in one process only changes the level.
pub fn start(config: &LogConfig) -> Result<(), String> {
    if LEVEL.get().is_some() {
        return set_level(config);
    }
    let (level, handle) = reload::Layer::new(config.targets());
    let lines = fmt::layer().with_writer(stderr).with_ansi(stderr().is_terminal());
    let format = match config.format {
        LogFormat::Auto if is_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) => LogFormat::Journald,
        LogFormat::Auto => LogFormat::Human,
        format => format,
    };
    let layer = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Journald => {
            let journal = tracing_journald::layer().map_err(|error| format!("systemd's journal cannot be reached: {error}"));
            match journal {
                Ok(journal) => journal.with_syslog_identifier("ringlane".into()).with_field_prefix(Some("RINGLANE".into())).boxed(),
                // Where the journal only was to be guessed, its own standard error will do.
                Err(_) if config.format == LogFormat::Auto => lines.boxed(),
                Err(words) => return Err(words),
            }
        }
        LogFormat::Human | LogFormat::Auto => lines.boxed(),
    };
    let registry = tracing_subscriber::registry().with(layer.with_filter(level));
    #[cfg(feature = "sentry")]
    let registry = registry.with(crate::reports::picked());
    registry.try_init().map_err(|error| format!("the log cannot be started: {error}"))?;
    let _ = LEVEL.set(handle);
    Ok(())
}

/// Changes what is told, at once and for all threads.
pub fn set_level(config: &LogConfig) -> Result<(), String> {
    let Some(level) = LEVEL.get() else { return Ok(()) };
    level.reload(config.targets()).map_err(|error| format!("the level of the log cannot be changed: {error}"))
}

/// Whether the standard error is the stream of systemd's journal that `JOURNAL_STREAM` names: `DEVICE:INODE`.
fn is_journal(named: Option<&str>) -> bool {
    let Ok(file) = std::fs::metadata("/proc/self/fd/2") else { return false };
    named == Some(&format!("{}:{}", file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_the_file_behind_the_standard_error() {
        let file = std::fs::metadata("/proc/self/fd/2").unwrap();
        assert!(is_journal(Some(&format!("{}:{}", file.dev(), file.ino()))));
        assert!(!is_journal(Some(&format!("{}:{}", file.dev(), file.ino() + 1))) && !is_journal(None) && !is_journal(Some("x")));
    }
}
