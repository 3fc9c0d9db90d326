//! The question for a snapshot: asked of the sequencer, answered at once, for a snapshot takes longer than anybody should wait.

use std::sync::atomic::Ordering;

use crossbeam::channel::bounded;
use serde_json::{Value, json};

use super::messages::Refusal;
use super::peer::Peer;
use super::session::Host;
use crate::sequencer::Command;

/// Asks for a snapshot, and says how far the newest one is. Only the sidecar's own user and root may: each one costs a pause.
pub fn ask(peer: &Peer, host: &Host) -> Result<Value, Refusal> {
    if peer.uid != 0 && peer.uid != nix::unistd::geteuid().as_raw() {
        return Err(Refusal::new("NOT_PERMITTED", "only the sidecar's own user and root may ask for a snapshot"));
    }
    let (answer, answered) = bounded(1);
    let stopping = || Refusal::new("STOPPING", "the sidecar is stopping");
    if !host.commands.send(Command::Snapshot(answer)) {
        return Err(stopping());
    }
    let wanted = answered.recv().map_err(|_| stopping())?;
    let wanted = wanted.ok_or_else(|| Refusal::new("BAD_VALUE", "this sidecar keeps no journal, so there is nothing to write beside it"))?;
    let news = &host.snapshots;
    Ok(json!({
        "ok": true, "wanted": wanted, "written": news.sequence.load(Ordering::Acquire), "bytes": news.bytes.load(Ordering::Relaxed),
        "pause_ns": news.pause_ns.load(Ordering::Relaxed), "failures": news.failures.load(Ordering::Relaxed),
    }))
}
