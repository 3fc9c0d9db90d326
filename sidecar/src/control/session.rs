//! One client's connection: its messages, its lanes, and the replies that carry file descriptors to it.
#![allow(unsafe_code)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Sender, bounded};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, recvmsg, sendmsg, shutdown, socketpair};
use ringlane_layout::board::control;
use ringlane_layout::limits::{
    ACCOUNT_MAX, CLIENT_NAME_BYTES_MAX, CLOSE_WAIT_NS_MAX, CONTROL_MESSAGE_BYTES_MAX, DEPTH_SLOTS_MAX, EVENTS_MAX, LAYOUT_VERSION,
};
use ringlane_layout::region::{LaneGeometry, LaneStatus, RING_OFFSET};
use serde_json::{Value, json};

use super::access::{Grant, Policy};
use super::ledger::{Charge, Ledger};
use super::market::Broadcast;
use super::messages::{Message, Number, Refusal, Request, id_of, order_lane_schemas, parse, row_schemas};
use super::peer::Peer;
use super::questions::Questions;
use super::refusals::Refusals;
use crate::board::BoardRow;
use crate::config::Config;
use crate::corpora::Corpora;
use crate::jobs::Jobs;
use crate::journal::LaneOpen;
use crate::kernels::door::Kernels;
use crate::lanes::{Lane, Memory, Owner};
use crate::sequencer::{Command, Commands, SnapshotNews, wall_clock_ns};
use crate::world;

/// What sessions need of the sidecar.
pub struct Host {
    /// The way to the sequencer.
    pub commands: Commands,
    /// The way to the jobs.
    pub jobs: Jobs,
    /// The corpora, and how they are loaded.
    pub corpora: Arc<Corpora>,
    /// Kernels beside that of orders.
    pub kernels: Kernels,
    /// Address that clients connect to.
    pub address: String,
    /// Name of the board.
    pub board: String,
    /// Journal directory, or "".
    pub journal: String,
    /// The broadcast of market data.
    pub broadcast: Broadcast,
    /// How the snapshots fare.
    pub snapshots: Arc<SnapshotNews>,
    /// Number of the lane that was opened last.
    pub lane_last: u32,
    /// Who may do what.
    pub policy: Policy,
    /// Who holds what.
    pub ledger: Ledger,
    /// What questions cost, and who waits for his share.
    pub questions: Questions,
    /// Counts and tells what was refused.
    pub refusals: Refusals,
    /// The configuration in force.
    pub config: Config,
    /// The control thread's row of the board.
    pub counters: BoardRow,
}

impl Host {
    /// Whether this peer's questions have used up their share of the sequencer's time.
    fn must_wait(&self, peer: &Peer) -> bool {
        self.questions.wait_until(peer.uid, world::now()).is_some()
    }

    /// Tells the board what lanes take.
    fn tell(&self) {
        let (bytes, bytes_max) = self.ledger.held();
        self.counters.write(&[(control::LANE_BYTES, bytes), (control::LANE_MAX_BYTES, bytes_max)]);
    }
}

/// A connected client.
pub struct Session {
    /// Client number.
    pub client: u64,
    /// Its control socket.
    pub socket: OwnedFd,
    /// Who it is.
    pub peer: Peer,
    /// What it may do.
    pub grant: Arc<Grant>,
    /// When it connected.
    pub since: Instant,
    /// Whether it said hello.
    pub greeted: bool,
    /// A question that waits, and the number of its reply.
    pub(super) held: Option<(Option<u64>, Request)>,
    pub(super) name: String,
    pub(super) build: String,
    pub(super) notify: Option<Arc<OwnedFd>>,
    pub(super) lanes: Vec<OpenLane>,
}

/// A lane that a client has open.
pub(super) struct OpenLane {
    pub(super) number: u32,
    pub(super) kernel: String,
    /// What it was opened with, beside orders: a client has one lane for each kernel and parameters.
    pub(super) parameters: Value,
    /// First and last account of an order lane; none for a lane of jobs.
    pub(super) accounts: Option<(u32, u32)>,
    pub(super) charge: Charge,
    pub(super) memory: [Memory; 2],
}

/// A reply and the descriptors that travel with it.
pub(super) struct Reply {
    pub(super) body: Value,
    pub(super) fds: Vec<RawFd>,
    /// Descriptors that close once they are sent.
    pub(super) _owned: Vec<OwnedFd>,
}

impl Reply {
    /// A reply with descriptors.
    pub(super) fn with(body: Value, owned: impl Into<Vec<OwnedFd>>) -> Self {
        let owned = owned.into();
        Self { body, fds: owned.iter().map(AsRawFd::as_raw_fd).collect(), _owned: owned }
    }
}

impl From<Value> for Reply {
    fn from(body: Value) -> Self {
        Self { body, fds: Vec::new(), _owned: Vec::new() }
    }
}

/// Takes ownership of a descriptor that a system call has just made.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: callers pass what accept4 returned or the service manager passed on; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

impl OpenLane {
    /// Begins its end. True: who serves it has heard of it, and tells `answer`.
    fn end(&self, host: &Host, answer: Option<Sender<bool>>) -> bool {
        if self.accounts.is_some() {
            return host.commands.send(Command::Close(self.number, LaneStatus::Closed, answer));
        }
        host.jobs.close(self.number, LaneStatus::Closed, answer);
        true
    }
}

impl Session {
    /// A connection that has not said anything yet.
    pub fn new(client: u64, socket: OwnedFd, peer: Peer, grant: Arc<Grant>) -> Self {
        Self {
            client,
            socket,
            peer,
            grant,
            since: world::now(),
            greeted: false,
            held: None,
            name: String::new(),
            build: String::new(),
            notify: None,
            lanes: Vec::new(),
        }
    }

    /// Reads one message and answers it. An error ends the connection.
    pub fn serve(&mut self, host: &mut Host) -> Result<(), String> {
        let mut buffer = [0; CONTROL_MESSAGE_BYTES_MAX];
        let (length, flags) = {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            // No room for ancillary data: descriptors that a client sends are discarded by the kernel and seen as MSG_CTRUNC.
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT) {
                Ok(message) => (message.bytes, message.flags),
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                Err(error) => return Err(format!("its socket failed: {error}")),
            }
        };
        if length == 0 {
            return Err("it closed its connection".into());
        }
        if flags.contains(MsgFlags::MSG_CTRUNC) {
            return Err("it sent a file descriptor, which the protocol forbids".into());
        }
        if flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(format!("it sent a message of more than {CONTROL_MESSAGE_BYTES_MAX} bytes"));
        }
        let message = &buffer[..length];
        let (id, answer) = match parse(message) {
            Ok(Message { id, request }) if request.is_question() && self.greeted && host.must_wait(&self.peer) => {
                self.held = Some((id, request));
                return Ok(());
            }
            Ok(message) => (message.id, self.answer(message.request, host)),
            Err(refusal) => (id_of(message), Err(refusal)),
        };
        self.reply(id, answer, host)
    }

    /// Answers the question that waited. An error ends the connection.
    pub(super) fn answer_held(&mut self, host: &mut Host) -> Result<(), String> {
        let Some((id, request)) = self.held.take() else { return Ok(()) };
        let answer = self.answer(request, host);
        self.reply(id, answer, host)
    }

    fn reply(&self, id: Option<u64>, answer: Result<Reply, Refusal>, host: &mut Host) -> Result<(), String> {
        host.tell();
        match answer {
            Ok(reply) => {
                host.counters.add(control::MESSAGES, 1);
                self.send(reply, id)
            }
            Err(refusal) => {
                host.refusals.note(&self.peer, &refusal);
                self.send(refusal.reply().into(), id)?;
                if refusal.code == "PROTOCOL" { Err(format!("it broke the protocol: {}", refusal.words)) } else { Ok(()) }
            }
        }
    }

    fn answer(&mut self, request: Request, host: &mut Host) -> Result<Reply, Refusal> {
        if !self.greeted && !matches!(request, Request::Hello { .. }) {
            return Err(Refusal::new("PROTOCOL", "the first message must be a hello"));
        }
        match request {
            Request::Hello { layout_version, build, name } => self.hello(layout_version, &build, name, host),
            Request::Open { kernel, depth, parameters, record, .. } if kernel != "orders" => {
                self.open_job(host, (kernel, record), depth, parameters)
            }
            Request::Open { parameters, .. } if !parameters.is_null() => {
                Err(Refusal::new("BAD_VALUE", "a lane of orders has no parameters"))
            }
            Request::Open { kernel, depth, events, cancel_on_disconnect, accounts, trace, .. } => {
                self.open(host, kernel, (depth, events.unwrap_or(depth)), (cancel_on_disconnect, trace), accounts)
            }
            Request::Attach { lane, token, released, events_read, event_number } => {
                self.attach(host, (lane, &token), (released, events_read, event_number))
            }
            Request::Corpus(request) => self.corpus(host, request),
            Request::Close { lane } => self.close(lane, host),
            Request::MarketData { symbols } => super::market::ask(symbols, &self.grant, host, self.peer.uid),
            Request::Snapshot {} => super::snapshot::ask(&self.grant, host).map(Reply::from),
            Request::Admin(request) => super::admin::administer(&request, &self.peer, &self.grant, host).map(Reply::from),
            Request::Query(query) => super::state::ask(query, &self.grant, host, self.peer.uid),
        }
    }

    fn hello(&mut self, layout_version: Number, build: &str, name: String, host: &Host) -> Result<Reply, Refusal> {
        if self.greeted {
            return Err(Refusal::new("PROTOCOL", "a connection says hello once"));
        }
        if layout_version != Number::Whole(LAYOUT_VERSION.into()) {
            let words = format!(
                "the client speaks layout version {layout_version}, this sidecar {LAYOUT_VERSION}; install the same ringlane on both sides"
            );
            return Err(Refusal::new("LAYOUT_VERSION", words));
        }
        // Names are shown on operators' terminals.
        if name.len() > CLIENT_NAME_BYTES_MAX || name.chars().any(char::is_control) {
            let words = format!("a client's name can have {CLIENT_NAME_BYTES_MAX} bytes at most, and no control characters");
            return Err(Refusal::new("BAD_VALUE", words));
        }
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (mine, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)
            .map_err(|error| Refusal::new("MEMORY", format!("no notify socket can be made: {error}")))?;
        crate::crash::point("hello");
        self.notify = Some(Arc::new(mine));
        self.greeted = true;
        self.name = name;
        // Shown on terminals too: what is no build hash is no build.
        self.build = if build.len() <= 16 && build.bytes().all(|byte| byte.is_ascii_hexdigit()) { build.to_owned() } else { String::new() };
        tracing::info!(client = self.client, pid = self.peer.pid, uid = self.peer.uid, name = self.name, build, "client");
        let body = json!({
            "ok": true, "client": self.client, "pid": std::process::id(), "version": env!("CARGO_PKG_VERSION"),
            "build": ringlane_layout::BUILD_HASH, "layout_version": LAYOUT_VERSION, "address": host.address, "board": host.board,
            "journal": host.journal, "rows": row_schemas(),
        });
        Ok(Reply { body, fds: vec![theirs.as_raw_fd()], _owned: vec![theirs] })
    }

    fn open(
        &mut self,
        host: &mut Host,
        kernel: String,
        (depth, events): (Number, Number),
        (cancel_on_disconnect, trace): (bool, bool),
        accounts: Option<(Number, Number)>,
    ) -> Result<Reply, Refusal> {
        if self.lanes.iter().any(|lane| lane.kernel == kernel) {
            let words = format!("this client has an open {kernel:?} lane already; share it between threads, or connect once more");
            return Err(Refusal::new("LANE_EXISTS", words));
        }
        self.grant.kernel(&kernel)?;
        let depth = depth.within("depth", 1, DEPTH_SLOTS_MAX as u32)?;
        let events = events.within("events", 1, EVENTS_MAX as u32)?;
        let geometry = LaneGeometry::new(depth.into(), events.into());
        // Without a collector nobody would read the spans.
        let is_traced = trace && host.config.traces.endpoint.is_some();
        let geometry = geometry.and_then(|geometry| if is_traced { geometry.traced() } else { Ok(geometry) });
        let geometry = geometry.map_err(|words| Refusal::new("BAD_VALUE", words))?;
        let (first, last) = match accounts {
            Some((first, last)) => (first.within("accounts", 1, ACCOUNT_MAX)?, last.within("accounts", 1, ACCOUNT_MAX)?),
            None => self.grant.only_accounts()?,
        };
        if last < first {
            return Err(Refusal::new("BAD_VALUE", format!("accounts must ascend within 1 to {ACCOUNT_MAX}, not {first} to {last}")));
        }
        self.grant.accounts(first, last)?;
        let deepest = geometry.depth_slots.max(geometry.event_capacity);
        if deepest > self.grant.depth_max {
            let words = format!("a lane of this user may have {} slots and events (depth_max), not {deepest}", self.grant.depth_max);
            return Err(Refusal::new("QUOTA", words));
        }
        let bytes = (geometry.requests_bytes() + geometry.results_bytes()) as u64;
        let charge = host.ledger.charge_lane(self.peer.uid, bytes, &self.grant)?;
        let opened = self.open_charged(host, kernel, geometry, cancel_on_disconnect, (first, last), charge);
        opened.inspect_err(|_| host.ledger.refund(charge))
    }

    /// Opens a lane that is permitted and paid for.
    fn open_charged(
        &mut self,
        host: &mut Host,
        kernel: String,
        geometry: LaneGeometry,
        cancel_on_disconnect: bool,
        (first, last): (u32, u32),
        charge: Charge,
    ) -> Result<Reply, Refusal> {
        let number = host.lane_last + 1;
        let token = random_token().map_err(|words| Refusal::new("MEMORY", words))?;
        let notify = self.notify.clone().ok_or_else(|| Refusal::new("PROTOCOL", "hello comes first"))?;
        let owner =
            Owner { client: self.client, pid: self.peer.pid, uid: self.peer.uid, name: self.name.clone(), build: self.build.clone() };
        let lane = Lane::create(number, owner, geometry, cancel_on_disconnect, notify, wall_clock_ns())
            .map_err(|words| Refusal::new("MEMORY", words))?;
        let fds = lane.fds().map_err(|error| Refusal::new("MEMORY", format!("no descriptors can be had: {error}")))?;
        let open = LaneOpen {
            lane: number,
            uid: self.peer.uid,
            pid: self.peer.pid,
            cancel_on_disconnect: u32::from(cancel_on_disconnect),
            account_first: first,
            account_last: last,
            depth_slots: geometry.depth_slots,
            token_hash: xxhash_rust::xxh3::xxh3_64(&token),
            event_capacity: geometry.event_capacity,
            ..LaneOpen::default()
        };
        let memory = lane.memory();
        let (answer, opened) = bounded(1);
        let stopping = || Refusal::new("STOPPING", "the sidecar is stopping");
        if !host.commands.send(Command::Open(Box::new(lane), open, answer)) {
            return Err(stopping());
        }
        world::wait_for(&opened, None).map_err(|_| stopping())?.map_err(|words| Refusal::new("QUOTA", words))?;
        host.lane_last = number;
        host.counters.add(control::LANES_OPENED, 1);
        tracing::info!(lane = number, client = self.client, pid = self.peer.pid, kernel, depth = geometry.depth_slots, "lane open");
        self.lanes.push(OpenLane {
            number,
            kernel: kernel.clone(),
            parameters: Value::Null,
            accounts: Some((first, last)),
            charge,
            memory,
        });
        let mut body = order_lane_schemas();
        let granted = json!({
            "ok": true, "lane": number, "kernel": kernel, "depth": geometry.depth_slots, "events": geometry.event_capacity,
            "accounts": [first, last], "token": hex(&token), "requests_bytes": geometry.requests_bytes(),
            "results_bytes": geometry.results_bytes(), "ring_offset": RING_OFFSET, "event_ring_offset": geometry.event_ring_offset(),
            "arena_bytes": geometry.arena_bytes,
        });
        if let (Some(body), Value::Object(granted)) = (body.as_object_mut(), granted) {
            body.extend(granted);
        }
        Ok(Reply { body, fds: fds.iter().map(AsRawFd::as_raw_fd).collect(), _owned: fds.into() })
    }

    fn close(&mut self, lane: Number, host: &mut Host) -> Result<Reply, Refusal> {
        let Some(index) = self.lanes.iter().position(|open| Number::Whole(open.number.into()) == lane) else {
            return Err(Refusal::new("UNKNOWN_LANE", format!("lane {lane} is not an open lane of this client")));
        };
        let closing = self.lanes.swap_remove(index);
        let (answer, closed) = bounded(1);
        if closing.end(host, Some(answer)) {
            // A deep lane of dear requests ends later, in its turns; other clients must not wait for it here.
            let _ = world::wait_for(&closed, Some(Duration::from_nanos(CLOSE_WAIT_NS_MAX)));
        }
        host.ledger.keep(closing.charge, closing.memory);
        Ok(json!({"ok": true}).into())
    }

    /// Closes what the client left open; what it submitted is completed first.
    pub fn close_lanes(self, host: &mut Host) {
        for lane in self.lanes {
            let _ = lane.end(host, None);
            host.ledger.keep(lane.charge, lane.memory);
        }
        host.tell();
    }

    /// Whether everything that it has open is permitted by this grant.
    pub fn is_within(&self, grant: &Grant) -> bool {
        let (may_use, may_trade) = (
            |lane: &OpenLane| grant.kernel(&lane.kernel),
            |lane: &OpenLane| lane.accounts.map_or(Ok(()), |(first, last)| grant.accounts(first, last)),
        );
        let may_search = |lane: &OpenLane| lane.parameters["corpus"].as_str().map_or(Ok(()), |corpus| grant.corpus(corpus));
        self.lanes.iter().all(|lane| may_use(lane).and_then(|()| may_trade(lane)).and_then(|()| may_search(lane)).is_ok())
    }

    /// A client that does not read its replies is not worth waiting for.
    fn send(&self, mut reply: Reply, id: Option<u64>) -> Result<(), String> {
        if let Some(id) = id {
            reply.body["id"] = json!(id);
        }
        let body = reply.body.to_string();
        let rights = [ControlMessage::ScmRights(&reply.fds)];
        let ancillary = if reply.fds.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(body.as_bytes())], ancillary, flags, None)
            .map_err(|error| format!("its reply of {} bytes could not be sent: {error}", body.len()))?;
        Ok(())
    }
}

/// Tells a peer that is not let in why, as the answer to what it may have said already; its connection then ends.
pub fn refuse(socket: &OwnedFd, refusal: &Refusal) {
    let mut message = [0; CONTROL_MESSAGE_BYTES_MAX];
    let mut parts = [IoSliceMut::new(&mut message)];
    // With a message unread, the end of the connection would overtake the words: none comes from here on, and one may be there.
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
    let said = recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, MsgFlags::MSG_DONTWAIT).map_or(0, |said| said.bytes);
    let mut body = refusal.reply();
    if let Some(id) = id_of(&message[..said]) {
        body["id"] = json!(id);
    }
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(body.to_string().as_bytes())], &[], flags, None);
}

/// 128 random bits from the kernel.
fn random_token() -> Result<[u8; 16], String> {
    use std::io::Read;
    let mut token = [0; 16];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut token));
    read.map(|()| token).map_err(|error| format!("no random token can be had: {error}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
