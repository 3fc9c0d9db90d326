//! What happened in the runs, counted: a simulation in which nothing happens proves nothing.

use std::collections::BTreeMap;
use std::fmt;

/// Counts by name.
#[derive(Default)]
pub struct Tally(BTreeMap<String, u64>);

impl Tally {
    /// It happened so many times more.
    pub fn add(&mut self, what: &str, count: u64) {
        *self.0.entry(what.to_owned()).or_default() += count;
    }

    /// Another run's counts too.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, count)| self.add(what, *count));
    }

    /// How often it happened.
    pub fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, count)| writeln!(formatter, "{count:>10} {what}"))
    }
}
