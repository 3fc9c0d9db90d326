//! A client that comes back after a restart of the sidecar: it shows its lane's token and says where it was, and gets fresh
//! regions in which everything that it cannot have yet stands.

use std::os::fd::AsRawFd;

use crossbeam::channel::bounded;
use ringlane_layout::region::{LaneGeometry, RING_OFFSET};
use serde_json::json;

use super::messages::{Number, Refusal};
use super::session::{Host, OpenLane, Reply, Session};
use crate::lanes::{Claim, Lane, Owner};
use crate::sequencer::{Command, Return, wall_clock_ns};
use crate::world;

fn whole(number: Number, name: &str) -> Result<u64, Refusal> {
    let whole = if let Number::Whole(whole) = number { u64::try_from(whole).ok() } else { None };
    whole.ok_or_else(|| Refusal::new("BAD_VALUE", format!("{name} must be a whole number from 0, not {number}")))
}

fn token_hash(token: &str) -> Result<u64, Refusal> {
    let wrong = || Refusal::new("BAD_VALUE", "a token has 32 hexadecimal digits");
    if token.len() != 32 || !token.is_ascii() {
        return Err(wrong());
    }
    let bytes: Option<Vec<u8>> = (0..16).map(|at| u8::from_str_radix(&token[2 * at..2 * at + 2], 16).ok()).collect();
    Ok(xxhash_rust::xxh3::xxh3_64(&bytes.ok_or_else(wrong)?))
}

impl Session {
    /// Gives the client its lane back.
    pub(super) fn attach(
        &mut self,
        host: &mut Host,
        (lane, token): (Number, &str),
        (released, events_read, event_number): (Number, Number, Number),
    ) -> Result<Reply, Refusal> {
        let claim = Claim {
            released: whole(released, "released")?,
            events_read: whole(events_read, "events_read")?,
            event_number: whole(event_number, "event_number")?,
        };
        let lane = lane.within("lane", 1, u32::MAX)?;
        let back = Return { lane, uid: self.peer.uid, token_hash: token_hash(token)?, claim };
        if self.lanes.iter().any(|open| open.kernel == "orders") {
            return Err(Refusal::new("LANE_EXISTS", "this client has an open \"orders\" lane already"));
        }
        let stopping = || Refusal::new("STOPPING", "the sidecar is stopping");
        let refused = |words: String| Refusal::new("NOT_ATTACHED", words);
        let (answer, found) = bounded(1);
        if !host.commands.send(Command::Find(back, answer)) {
            return Err(stopping());
        }
        let open = world::wait_for(&found, None).map_err(|_| stopping())?.map_err(refused)?;
        // What an administrator took away since is not given back.
        self.grant.kernel("orders")?;
        self.grant.accounts(open.account_first, open.account_last)?;
        let geometry = LaneGeometry::new(open.depth_slots, open.events()).map_err(|words| Refusal::new("BAD_VALUE", words))?;
        let bytes = (geometry.requests_bytes() + geometry.results_bytes()) as u64;
        let charge = host.ledger.charge_lane(self.peer.uid, bytes, &self.grant)?;
        let made = self.attach_charged(host, back, geometry, open.cancel_on_disconnect != 0);
        let (reply, memory) = made.inspect_err(|_| host.ledger.refund(charge))?;
        let accounts = Some((open.account_first, open.account_last));
        tracing::info!(lane, client = self.client, pid = self.peer.pid, "lane attached again");
        crate::crash::point("attach.answer");
        self.lanes.push(OpenLane { number: lane, kernel: "orders".into(), parameters: serde_json::Value::Null, accounts, charge, memory });
        Ok(reply)
    }

    fn attach_charged(
        &self,
        host: &Host,
        back: Return,
        geometry: LaneGeometry,
        cancel_on_disconnect: bool,
    ) -> Result<(Reply, [crate::lanes::Memory; 2]), Refusal> {
        let no_memory = |words: String| Refusal::new("MEMORY", words);
        let stopping = || Refusal::new("STOPPING", "the sidecar is stopping");
        let notify = self.notify.clone().ok_or_else(|| Refusal::new("PROTOCOL", "hello comes first"))?;
        let owner =
            Owner { client: self.client, pid: self.peer.pid, uid: self.peer.uid, name: self.name.clone(), build: self.build.clone() };
        let lane = Lane::create(back.lane, owner, geometry, cancel_on_disconnect, notify, wall_clock_ns()).map_err(no_memory)?;
        let fds = lane.fds().map_err(|error| no_memory(format!("no descriptors can be had: {error}")))?;
        let memory = lane.memory();
        let (answer, attached) = bounded(1);
        if !host.commands.send(Command::Attach(Box::new(lane), back, answer)) {
            return Err(stopping());
        }
        let journaled = world::wait_for(&attached, None).map_err(|_| stopping())?.map_err(|words| Refusal::new("NOT_ATTACHED", words))?;
        let body = json!({
            "ok": true, "lane": back.lane, "journaled": journaled, "depth": geometry.depth_slots, "events": geometry.event_capacity,
            "requests_bytes": geometry.requests_bytes(), "results_bytes": geometry.results_bytes(), "ring_offset": RING_OFFSET,
            "event_ring_offset": geometry.event_ring_offset(),
        });
        Ok((Reply { body, fds: fds.iter().map(AsRawFd::as_raw_fd).collect(), _owned: fds.into() }, memory))
    }
}
