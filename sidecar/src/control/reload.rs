//! SIGHUP: the configuration is read again, and either all of it that can change while lanes are open is in force at once, or
//! nothing has changed. The log says which.

use std::sync::Arc;

use super::Control;
use super::access::Policy;
use crate::config::Config;

impl Control {
    /// Reads the configuration again. A file that is wrong in anything leaves everything as it was.
    pub(super) fn reload(&mut self) {
        match self.read_again() {
            Ok(changes) if changes.is_empty() => tracing::info!("configuration read again: nothing has changed"),
            Ok(changes) => tracing::info!("configuration read again: {}", changes.join("; ")),
            Err(words) => tracing::error!("configuration not changed, the old one stays in force: {words}"),
        }
    }

    /// All that can fail comes first. Gives what changed, in words.
    fn read_again(&mut self) -> Result<Vec<String>, String> {
        let old = &self.host.config;
        if old.source.path.is_none() {
            return Err("this sidecar was started without a configuration file".into());
        }
        let fresh = Config::load(old.source.clone())?;
        let policy = Policy::new(&fresh.access)?;
        let mut changes = Vec::new();
        let late = old.differs_at_start(&fresh);
        if fresh.lanes.bytes_max != old.lanes.bytes_max {
            let was = self.host.ledger.set_bytes_max(fresh.lanes.bytes_max);
            changes.push(format!("lanes.bytes_max from {was} to {}", fresh.lanes.bytes_max));
        }
        if fresh.access.rules != old.access.rules {
            changes.push(format!("access.rules from {} to {}", count(old.access.rules.len()), count(fresh.access.rules.len())));
            changes.extend(old.access.changes(&fresh.access));
            self.host.policy = policy;
            changes.extend(self.apply_policy());
        }
        if !late.is_empty() {
            changes.push(format!("{} changed in the file too, which takes effect at the next start only", late.join(", ")));
        }
        // What is read at start only stays what it was at start, so that the next reload says it again.
        self.host.config.access.rules = fresh.access.rules;
        self.host.config.lanes = fresh.lanes;
        Ok(changes)
    }

    /// Gives every client its new rights; ends those whose open lanes, or who themselves, are permitted no more.
    fn apply_policy(&mut self) -> Vec<String> {
        let mut ended = Vec::new();
        for (client, session) in &mut self.sessions {
            match self.host.policy.grant(&session.peer) {
                Some(grant) if session.is_within(&grant) => session.grant = Arc::clone(&grant),
                _ => ended.push((*client, session.peer.uid, session.peer.pid)),
            }
        }
        let say =
            |(client, uid, pid): &(u64, u32, u32)| format!("client {client} (uid {uid}, pid {pid}) disconnected: its access was withdrawn");
        let words = ended.iter().map(say).collect();
        ended.into_iter().for_each(|(client, ..)| self.end(client, "its access was withdrawn"));
        words
    }
}

fn count(rules: usize) -> String {
    if rules == 0 { "none (everybody may do everything)".into() } else { rules.to_string() }
}
