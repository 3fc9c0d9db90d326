//! The question for a snapshot: asked of the sequencer, answered at once, for a snapshot takes longer than anybody should wait.

use std::sync::atomic::Ordering;

use crossbeam::channel::bounded;
use serde_json::{Value, json};

use super::access::{Grant, not_permitted};
use super::messages::Refusal;
use super::session::Host;
use crate::sequencer::Command;

/// Asks for a snapshot, and says how far the newest one is. For administrators: each one costs a pause.
pub fn ask(grant: &Grant, host: &Host) -> Result<Value, Refusal> {
    if !grant.administer {
        return Err(not_permitted("this user may not ask for a snapshot".into()));
    }
    let (answer, answered) = bounded(1);
    let stopping = || Refusal::new("STOPPING", "the sidecar is stopping");
    if !host.commands.send(Command::Snapshot(answer)) {
        return Err(stopping());
    }
    let wanted = crate::world::wait_for(&answered, None).map_err(|_| stopping())?;
    let wanted =
        wanted.ok_or_else(|| Refusal::new("BAD_VALUE", "this sidecar keeps no journal, so there is nothing to write beside it"))?;
    let news = &host.snapshots;
    Ok(json!({
        "ok": true, "wanted": wanted, "written": news.sequence.load(Ordering::Acquire), "bytes": news.bytes.load(Ordering::Relaxed),
        "pause_ns": news.pause_ns.load(Ordering::Relaxed), "failures": news.failures.load(Ordering::Relaxed),
    }))
}
