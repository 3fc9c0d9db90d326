//! A simulated client: the real client's half of a lane and real messages on a real control socket, and a list of everything
//! that it sent and was told. It sends in batches of any size, reads late, comes back to its lane when the sidecar was started
//! anew, and may disappear at any moment.

use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg, send, socket};
use ringlane_layout::client::{Client, Mapping};
use ringlane_layout::limits::{CONTROL_MESSAGE_BYTES_MAX, LAYOUT_VERSION};
use ringlane_layout::orders::{EventKind, OrderEvent, OrderRequest, OrderResult};
use ringlane_layout::record::Record;
use ringlane_layout::region::{LaneGeometry, LaneStatus};
use ringlane_layout::slots::Serial;
use ringlane_sidecar::control::own;
use ringlane_tests::order_flow::Random;
use serde_json::{Value, json};

use super::flow::{one_in, request, within};
use super::region::Region;
use super::world::Sim;

/// Slots and events of every lane: the fewest that there may be.
const DEPTH: u64 = 64;

/// What a client knows of its lane, in its own words.
#[derive(Default)]
pub struct Story {
    /// Its number; 0 before it is open.
    pub lane: u32,
    /// First and last account.
    pub accounts: (u32, u32),
    /// Whether its orders are cancelled when it ends.
    pub cancels: bool,
    /// What was submitted, by slot.
    pub submitted: Vec<OrderRequest>,
    /// What was told of each slot so far.
    pub results: Vec<Option<OrderResult>>,
    /// What came out of the event ring, GAPs included.
    pub events: Vec<OrderEvent>,
    /// Whether its lane has been closed under it, as it may be when it stays away for too long.
    pub is_lost: bool,
    /// Whether it is there no more.
    pub is_gone: bool,
}

/// How far it is with its connection.
enum Stage {
    /// It has none, and tries at this time, nanoseconds.
    Away(u64),
    Greeting,
    Opening,
    Attaching,
    Open,
}

struct Open {
    client: Client<Region>,
    doorbell: OwnedFd,
    token: String,
    /// Batches whose results are still looked at.
    pinned: VecDeque<(Serial, u64, u64)>,
}

/// One client.
pub struct Trader {
    /// What it knows.
    pub story: Story,
    stage: Stage,
    socket: Option<OwnedFd>,
    notify: Option<OwnedFd>,
    open: Option<Open>,
    /// How seldom it reads what it was told.
    lateness: u64,
    /// Number of the last event.
    event_number: u64,
    /// It sends nothing new.
    pub is_quiet: bool,
}

enum Heard {
    Nothing,
    End,
    Reply(Value, Vec<OwnedFd>),
}

impl Trader {
    /// A client that will connect.
    pub fn new(random: &mut Random, accounts: (u32, u32)) -> Self {
        let story = Story { accounts, cancels: one_in(random, 2), ..Story::default() };
        let lateness = [1, 3, 30][random.below(3) as usize];
        Self { story, stage: Stage::Away(0), socket: None, notify: None, open: None, lateness, event_number: 0, is_quiet: false }
    }

    /// Whether everything that it sent was answered, everything that it will hear was heard, and it has its lane.
    pub fn is_content(&self) -> bool {
        let told = self.story.results.iter().all(Option::is_some);
        self.story.is_gone || self.story.is_lost || (matches!(self.stage, Stage::Open) && told && self.events_ahead() == Some(0))
    }

    /// How it is, in words.
    pub fn condition(&self) -> String {
        let stage = match self.stage {
            Stage::Away(at_ns) => format!("away until {at_ns}"),
            Stage::Greeting => "greeting".into(),
            Stage::Opening => "opening".into(),
            Stage::Attaching => "attaching".into(),
            Stage::Open => "open".into(),
        };
        let cursors = self.open.as_ref().map(|open| (open.client.cursors(), open.client.status()));
        let told = self.story.results.iter().flatten().count();
        format!("lane {} is {stage}, {} sent, {told} told, cursors and status {cursors:?}", self.story.lane, self.story.submitted.len())
    }

    fn events_ahead(&self) -> Option<u64> {
        self.open.as_ref().and_then(|open| open.client.events_ahead().ok())
    }

    /// It disappears: its process ends, whatever it was doing.
    pub fn vanish(&mut self) {
        if let Some(open) = &self.open {
            // Slots that were being filled have never been sent.
            let _ = open.client.reserve(1, false);
        }
        (self.socket, self.notify, self.open) = (None, None, None);
        self.story.is_gone = true;
    }

    /// One step.
    pub fn step(&mut self, sim: &Sim, address: &Path) -> Result<(), String> {
        if self.story.is_gone || self.story.is_lost {
            return Ok(());
        }
        match self.stage {
            Stage::Away(at_ns) if sim.clock_ns() >= at_ns => self.connect(sim, address),
            Stage::Away(_) => {}
            Stage::Open => {
                if matches!(self.hear()?, Heard::End) {
                    self.lose(sim);
                } else {
                    self.work(sim)?;
                }
            }
            _ => match self.hear()? {
                Heard::Nothing => {}
                Heard::End => self.lose(sim),
                Heard::Reply(body, files) => self.answer(sim, &body, files)?,
            },
        }
        Ok(())
    }

    /// The sidecar is gone: it tries again soon, or, once in a while, much later.
    fn lose(&mut self, sim: &Sim) {
        (self.socket, self.notify) = (None, None);
        let longest_ns = if sim.one_in(30) && !self.is_quiet { 20_000_000_000 } else { 20_000_000 };
        self.stage = Stage::Away(sim.clock_ns() + sim.below(longest_ns));
    }

    fn connect(&mut self, sim: &Sim, address: &Path) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).expect("there are descriptors");
        let address = UnixAddr::new(address).expect("the path is short");
        if connect(made.as_raw_fd(), &address).is_err() {
            return self.lose(sim);
        }
        self.socket = Some(made);
        self.say(&json!({"op": "hello", "layout_version": LAYOUT_VERSION, "name": "simulated"}));
        self.stage = Stage::Greeting;
    }

    fn say(&self, message: &Value) {
        let Some(socket) = &self.socket else { return };
        // A sidecar that is gone is noticed when it is listened to.
        let _ = send(socket.as_raw_fd(), message.to_string().as_bytes(), MsgFlags::MSG_NOSIGNAL);
    }

    fn hear(&self) -> Result<Heard, String> {
        let Some(socket) = &self.socket else { return Ok(Heard::End) };
        let (mut buffer, mut space) = ([0; CONTROL_MESSAGE_BYTES_MAX], nix::cmsg_space!([std::os::fd::RawFd; 4]));
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let (len, files) = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_DONTWAIT) {
            Ok(message) => {
                let rights = message.cmsgs().map_err(|error| error.to_string())?.filter_map(|message| match message {
                    ControlMessageOwned::ScmRights(files) => Some(files),
                    _ => None,
                });
                (message.bytes, rights.flatten().map(own).collect())
            }
            Err(Errno::EAGAIN) => return Ok(Heard::Nothing),
            Err(_) => return Ok(Heard::End),
        };
        if len == 0 {
            return Ok(Heard::End);
        }
        let body = serde_json::from_slice(&buffer[..len]).map_err(|error| format!("a reply is no JSON: {error}"))?;
        Ok(Heard::Reply(body, files))
    }

    fn answer(&mut self, sim: &Sim, body: &Value, mut files: Vec<OwnedFd>) -> Result<(), String> {
        let is_ok = body["ok"] == json!(true);
        match self.stage {
            Stage::Greeting if is_ok => {
                self.notify = files.pop();
                self.ask_for_lane();
            }
            Stage::Opening if is_ok => {
                self.open(body, files)?;
                self.stage = Stage::Open;
            }
            Stage::Attaching if is_ok => {
                self.resume(sim, body, files)?;
                self.stage = Stage::Open;
            }
            // Refused for the moment: a sidecar that stops, or whose journal takes nothing.
            _ if body["code"] == json!("STOPPING") || matches!(self.stage, Stage::Opening) => self.lose(sim),
            Stage::Attaching if !sim.has_lane(self.story.lane) => self.story.is_lost = true,
            _ => return Err(format!("lane {}: the sidecar refused: {body}", self.story.lane)),
        }
        Ok(())
    }

    fn ask_for_lane(&mut self) {
        let (first, last) = self.story.accounts;
        let Some(open) = &self.open else {
            self.say(&json!({"op": "open", "kernel": "orders", "depth": DEPTH, "events": DEPTH,
                "cancel_on_disconnect": self.story.cancels, "accounts": [first, last]}));
            self.stage = Stage::Opening;
            return;
        };
        let (_, _, released, _, events_read) = open.client.cursors();
        self.say(&json!({"op": "attach", "lane": self.story.lane, "token": open.token, "released": released,
            "events_read": events_read, "event_number": self.event_number}));
        self.stage = Stage::Attaching;
    }

    fn open(&mut self, body: &Value, files: Vec<OwnedFd>) -> Result<(), String> {
        let number = |name: &str| body[name].as_u64().ok_or_else(|| format!("the reply has no {name}: {body}"));
        let geometry = LaneGeometry::new(number("depth")?, number("events")?)?;
        let [requests, results, doorbell] = <[OwnedFd; 3]>::try_from(files).map_err(|_| "a lane comes with three files".to_owned())?;
        let map = |region: std::io::Result<Region>| region.map_err(|error| format!("a region cannot be mapped: {error}"));
        let regions = (map(Region::requests(&requests, geometry))?, map(Region::results(&results, geometry))?);
        let (lane, hashes) = (number("lane")?, (OrderRequest::SCHEMA_HASH, OrderResult::SCHEMA_HASH));
        let client = Client::new(geometry, lane, hashes, [u64::MAX; 8].into(), regions.0, regions.1)?;
        let token = body["token"].as_str().unwrap_or_default().to_owned();
        self.story.lane = lane as u32;
        self.open = Some(Open { client, doorbell, token, pinned: VecDeque::new() });
        Ok(())
    }

    fn resume(&mut self, sim: &Sim, body: &Value, files: Vec<OwnedFd>) -> Result<(), String> {
        let Some(open) = &mut self.open else { return Err("nothing was opened".into()) };
        let [requests, results, doorbell] = <[OwnedFd; 3]>::try_from(files).map_err(|_| "a lane comes with three files".to_owned())?;
        let say = |error: std::io::Error| format!("lane {}: it cannot go on: {error}", self.story.lane);
        let geometry = open.client.geometry();
        let fresh = (Region::requests(&requests, geometry).map_err(say)?, Region::results(&results, geometry).map_err(say)?);
        let journaled = body["journaled"].as_u64().ok_or("the reply says nothing of what is journaled")?;
        let resumed = open.client.resume(journaled, (&fresh.0, &fresh.1), |old| {
            old.requests.lay(&requests)?;
            old.results.lay(&results)
        });
        if !resumed.map_err(say)? {
            return Err("a reservation was open between two steps".into());
        }
        open.doorbell = doorbell;
        // The lane may sleep already.
        Self::ring(open, true);
        sim.count("lanes that went on");
        sim.note(&[self.story.lane.into(), journaled]);
        // What was told stands there again.
        let (_, completed, released, ..) = open.client.cursors();
        if completed < journaled {
            return Err(format!("lane {}: {journaled} slots are journaled and {completed} told", self.story.lane));
        }
        (released..completed).try_for_each(|slot| self.look(sim, slot))
    }

    /// Looks at the result of a slot that is done; whenever it is looked at, it is the same.
    fn look(&mut self, sim: &Sim, slot: u64) -> Result<(), String> {
        let Some(open) = &self.open else { return Ok(()) };
        let mut result = OrderResult::default();
        open.client.read_result(slot, bytemuck::bytes_of_mut(&mut result));
        let lane = self.story.lane;
        match self.story.results.get_mut(slot as usize) {
            Some(Some(before)) if *before == result => {}
            Some(Some(before)) => return Err(format!("lane {lane}: slot {slot} was told {before:?}, and then {result:?}")),
            Some(told) => {
                *told = Some(result);
                sim.note(&[lane.into(), slot]);
                sim.note_bytes(bytemuck::bytes_of(&result));
            }
            None => return Err(format!("lane {lane}: slot {slot} was never submitted, and is done")),
        }
        Ok(())
    }

    fn work(&mut self, sim: &Sim) -> Result<(), String> {
        let Some(open) = &self.open else { return Ok(()) };
        let status = open.client.status();
        let is_end = status == LaneStatus::ShuttingDown as u64 || status == LaneStatus::JournalFailed as u64;
        if status != 0 && !is_end {
            return Err(format!("lane {}: {}", self.story.lane, LaneStatus::words(status)));
        }
        match sim.below(6) {
            0 | 1 if !self.is_quiet => self.submit(sim),
            2 if !self.is_quiet => self.submit_one(sim),
            3 if sim.one_in(self.lateness) || self.is_quiet => self.read_events(sim),
            _ if sim.one_in(self.lateness) || self.is_quiet => self.read_results(sim),
            _ => Ok(()),
        }
    }

    fn ring(open: &Open, is_due: bool) {
        if is_due {
            let _ = nix::unistd::write(&open.doorbell, &1_u64.to_ne_bytes());
        }
    }

    fn submit(&mut self, sim: &Sim) -> Result<(), String> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let count = if sim.one_in(4) { sim.within(1, DEPTH) } else { sim.within(1, 6) };
        let Ok((serial, first, _)) = open.client.reserve(count, sim.one_in(2)) else { return Ok(()) };
        if sim.one_in(20) {
            let abandoned: Result<(), String> = open.client.abandon(serial, |_| Err("nobody looks at it".into()));
            return abandoned;
        }
        let look = open.client.look_at_open(serial).ok_or("the reservation is there")?;
        for slot in first..first + count {
            let order = sim.with_random(|random| request(random, self.story.accounts, sim.clock_ns()));
            look.mapping.bytes().write(open.client.geometry().request_offset(slot), bytemuck::bytes_of(&order));
            self.story.submitted.push(order);
            self.story.results.push(None);
        }
        let (results, is_asleep) = open.client.commit(serial).ok_or("the reservation is there")?;
        open.client.unpin(look.serial.ok_or("the look pins")?);
        open.pinned.push_back((results.serial.ok_or("the look pins")?, first, count));
        Self::ring(open, is_asleep);
        sim.note(&[self.story.lane.into(), first, count]);
        Ok(())
    }

    fn submit_one(&mut self, sim: &Sim) -> Result<(), String> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let order = sim.with_random(|random| request(random, self.story.accounts, sim.clock_ns()));
        let Ok((serial, slot, is_asleep)) = open.client.submit_one(bytemuck::bytes_of(&order)) else { return Ok(()) };
        self.story.submitted.push(order);
        self.story.results.push(None);
        open.pinned.push_back((serial, slot, 1));
        Self::ring(open, is_asleep);
        Ok(())
    }

    /// Reads what is done, and gives back what was read whole; some of it only later.
    fn read_results(&mut self, sim: &Sim) -> Result<(), String> {
        let Some(open) = &self.open else { return Ok(()) };
        let completed = open.client.completed();
        if completed > self.story.submitted.len() as u64 {
            return Err(format!("lane {}: {completed} slots are done, and {} submitted", self.story.lane, self.story.submitted.len()));
        }
        let first = open.pinned.front().map_or(completed, |(_, first, _)| *first);
        (first..completed).try_for_each(|slot| self.look(sim, slot))?;
        let Some(open) = &mut self.open else { return Ok(()) };
        while let Some(&(serial, first, count)) = open.pinned.front()
            && first + count <= completed
        {
            open.pinned.pop_front();
            open.client.unpin(serial);
            if sim.one_in(4) {
                break;
            }
        }
        Ok(())
    }

    /// Takes events: numbered without gap or repeat, save for what a GAP tells of.
    fn read_events(&mut self, sim: &Sim) -> Result<(), String> {
        let Some(open) = &self.open else { return Ok(()) };
        let ahead = open.client.events_ahead()?.min(sim.within(1, DEPTH));
        let mut events = vec![OrderEvent::default(); ahead as usize];
        open.client.take_events(bytemuck::cast_slice_mut(&mut events));
        for event in events {
            let due = self.event_number + 1;
            let is_gap = event.kind == EventKind::Gap as u8;
            let first = if is_gap { event.sequence } else { event.number };
            if first != due || event.number < first {
                return Err(format!("lane {}: event {due} was due, and {event:?} came", self.story.lane));
            }
            self.event_number = event.number;
            sim.note_bytes(bytemuck::bytes_of(&event));
            self.story.events.push(event);
        }
        Ok(())
    }

    /// How long it will wait before it tries again is over: it comes back now.
    pub fn hurry(&mut self) {
        if let Stage::Away(at_ns) = &mut self.stage {
            *at_ns = 0;
        }
    }

    /// Accounts that a client may use; others may use some of them too.
    pub fn choose_accounts(random: &mut Random) -> (u32, u32) {
        let first = within(random, 1, u64::from(super::flow::ACCOUNTS)) as u32;
        (first, within(random, first.into(), u64::from(super::flow::ACCOUNTS)) as u32)
    }
}
