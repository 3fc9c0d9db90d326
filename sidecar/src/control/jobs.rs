//! Opening lanes of kernels other than that of orders: the kernel says what stands in the slots, the client how many there are.

use ringlane_layout::limits::DEPTH_SLOTS_MAX;
use ringlane_layout::region::{LaneGeometry, LaneSizes, RING_OFFSET};
use serde_json::{Value, json};

use super::ledger::Charge;
use super::messages::{CorpusRequest, Number, Refusal, kernel_lane_schemas};
use super::session::{Host, OpenLane, Reply, Session};
use crate::jobs::{Keeper, Opening};
use crate::kernels::door::OpenKernel;
use crate::lanes::{JobLane, Owner};
use crate::sequencer::wall_clock_ns;

impl Session {
    /// Loads, lists and drops corpora that this user may use.
    pub(super) fn corpus(&self, host: &Host, request: CorpusRequest) -> Result<Reply, Refusal> {
        let bad = |words| Refusal::new("BAD_VALUE", words);
        match request {
            CorpusRequest::Load { name, path, metric, ids } => {
                self.grant.kernel("vectors")?;
                self.grant.corpus(&name)?;
                host.corpora.load(&name, &path, &metric, ids.as_deref()).map_err(bad)?;
            }
            CorpusRequest::Drop { name } => {
                self.grant.kernel("vectors")?;
                self.grant.corpus(&name)?;
                if !host.corpora.remove(&name) {
                    return Err(bad(format!("there is no corpus {name:?}")));
                }
            }
            CorpusRequest::List {} => {
                let mut corpora = host.corpora.list();
                corpora.retain(|corpus| corpus["name"].as_str().is_some_and(|name| self.grant.corpus(name).is_ok()));
                return Ok(json!({"ok": true, "corpora": corpora}).into());
            }
        }
        Ok(json!({"ok": true}).into())
    }

    /// Opens a lane of a kernel that runs as jobs.
    pub(super) fn open_job(
        &mut self,
        host: &mut Host,
        (kernel, record): (String, bool),
        depth: Number,
        parameters: Value,
    ) -> Result<Reply, Refusal> {
        if record && host.journal.is_empty() {
            return Err(Refusal::new("BAD_VALUE", "this sidecar keeps no journal, so nothing can be recorded; start it with one"));
        }
        self.grant.kernel(&kernel)?;
        if let Some(corpus) = parameters["corpus"].as_str() {
            self.grant.corpus(corpus)?;
        }
        let Some(opened) = host.kernels.open(&kernel, &parameters) else {
            let names: Vec<_> = ["orders"].into_iter().chain(host.kernels.names()).collect();
            let words = format!("there is no kernel {kernel:?} here; this sidecar has: {}", names.join(", "));
            return Err(Refusal::new("UNKNOWN_KERNEL", words));
        };
        let open = opened.map_err(|words| Refusal::new("BAD_VALUE", words))?;
        if self.lanes.iter().any(|lane| lane.kernel == kernel && lane.parameters == parameters) {
            let words = format!(
                "this client has an open {kernel:?} lane with these parameters already; share it between threads, or connect once more"
            );
            return Err(Refusal::new("LANE_EXISTS", words));
        }
        let depth = depth.within("depth", 1, DEPTH_SLOTS_MAX as u32)?;
        let sizes = LaneSizes {
            request_slot_bytes: open.shape.request.size_bytes as u64,
            result_slot_bytes: open.shape.result.size_bytes as u64,
            event_capacity: 0,
            arena_bytes: open.shape.arena_bytes,
        };
        let geometry = LaneGeometry::sized(depth.into(), sizes).map_err(|words| Refusal::new("BAD_VALUE", words))?;
        if geometry.depth_slots > self.grant.depth_max {
            let (most, deep) = (self.grant.depth_max, geometry.depth_slots);
            return Err(Refusal::new("QUOTA", format!("a lane of this user may have {most} slots (depth_max), not {deep}")));
        }
        let bytes = (geometry.requests_bytes() + geometry.results_bytes()) as u64;
        let charge = host.ledger.charge_lane(self.peer.uid, bytes, &self.grant)?;
        let opened = self.open_job_charged(host, (kernel, parameters, record), geometry, open, charge);
        opened.inspect_err(|_| host.ledger.refund(charge))
    }

    /// Opens a lane that is permitted and paid for.
    fn open_job_charged(
        &mut self,
        host: &mut Host,
        (kernel, parameters, record): (String, Value, bool),
        geometry: LaneGeometry,
        open: OpenKernel,
        charge: Charge,
    ) -> Result<Reply, Refusal> {
        let number = host.lane_last + 1;
        let notify = self.notify.clone().ok_or_else(|| Refusal::new("PROTOCOL", "hello comes first"))?;
        let owner =
            Owner { client: self.client, pid: self.peer.pid, uid: self.peer.uid, name: self.name.clone(), build: self.build.clone() };
        let hashes = (open.shape.request.hash(), open.shape.result.hash());
        let (lane, cursors) =
            JobLane::create(number, owner, geometry, hashes, notify, wall_clock_ns()).map_err(|words| Refusal::new("MEMORY", words))?;
        let fds = lane.fds().map_err(|error| Refusal::new("MEMORY", format!("no descriptors can be had: {error}")))?;
        let memory = lane.memory();
        let mut body = kernel_lane_schemas(&open.shape);
        let keeper = record.then(|| Keeper::open(host.commands.clone(), (number, &open.shape), &kernel, &parameters)).transpose();
        let keeper = keeper.map_err(|why| Refusal::new("STOPPING", format!("the lane cannot be recorded: {why:?}")))?;
        let opening = Opening { lane, cursors, kernel: kernel.clone(), open, keeper };
        let served = host.jobs.open(opening).ok_or_else(|| Refusal::new("STOPPING", "the sidecar is stopping"))?;
        served.map_err(|words| Refusal::new("QUOTA", words))?;
        host.lane_last = number;
        tracing::info!(lane = number, client = self.client, pid = self.peer.pid, kernel, depth = geometry.depth_slots, "lane open");
        let granted = json!({
            "ok": true, "lane": number, "kernel": kernel, "depth": geometry.depth_slots, "events": 0, "accounts": null, "token": "",
            "requests_bytes": geometry.requests_bytes(), "results_bytes": geometry.results_bytes(), "ring_offset": RING_OFFSET,
            "event_ring_offset": geometry.event_ring_offset(), "arena_bytes": geometry.arena_bytes,
        });
        if let (Some(body), Value::Object(granted)) = (body.as_object_mut(), granted) {
            body.extend(granted);
        }
        self.lanes.push(OpenLane { number, kernel, parameters, accounts: None, charge, memory });
        Ok(Reply::with(body, fds))
    }
}
