//! Which lines of the log are reports too, whatever the level of the log: faults of lanes, and what is wrong with the journal.
//! None of them quotes what a client sent.

use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{Filtered, LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer};

use super::{QUEUE, Report, Words};

/// Modules that tell of lanes which a fault ended.
const FAULTS: [&str; 2] = ["ringlane_sidecar::sequencer::commands", "ringlane_sidecar::jobs::served"];
/// Modules that tell what is wrong with the journal, and from which level on.
const ERRORS: [(&str, LevelFilter); 3] = [
    ("ringlane_sidecar::journal", LevelFilter::WARN),
    // A torn end is what every kill leaves.
    ("ringlane_sidecar::journal::reader", LevelFilter::ERROR),
    ("ringlane_sidecar::sequencer::snapshots", LevelFilter::ERROR),
];

/// Takes lines of the log that are reports.
pub struct Pick;

/// The layer of the log that does so.
pub fn picked<S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>>() -> Filtered<Pick, Targets, S> {
    let faults = FAULTS.map(|module| (module, LevelFilter::WARN));
    Pick.with_filter(Targets::new().with_targets(faults.into_iter().chain(ERRORS)))
}

impl<S: Subscriber> Layer<S> for Pick {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(queue) = QUEUE.get() else { return };
        let target = event.metadata().target();
        let mut words = Words { message: String::new(), target, fields: std::collections::BTreeMap::new() };
        event.record(&mut words);
        let is_fault = FAULTS.contains(&target);
        queue.push(if is_fault { Report::Fault(words) } else { Report::Error(words) });
    }
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.fields.insert(field.name(), format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}
