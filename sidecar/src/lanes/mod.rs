//! A lane as the sidecar sees it: its two regions, what has been checked of the client's cursors, and its event ring.
//! Whoever doubts a peer does it here; what a record means is the kernel's business.

mod attach;
mod job;
mod region;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytemuck::Zeroable;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, send};
use ringlane_layout::orders::{EventKind, OrderEvent, OrderRequest, OrderResult};
use ringlane_layout::record::{Record, RecordBytes};
use ringlane_layout::region::{
    LaneGeometry, LaneStatus, REQUESTS_MAGIC, RESULTS_MAGIC, RING_OFFSET, SPAN_CONTEXT_BYTES, SpanContext, requests_word,
};
use ringlane_layout::ring::{self, Answered, ClientWords, EventRoom, Intake, SidecarWords};
use ringlane_layout::shared::RecordRing;

use crate::crash;

pub use attach::{Claim, Kept};
pub use job::{JobCursors, JobLane};
pub use region::{Memory, Region, sealed_rows};

/// Who opened a lane, proven by the kernel.
#[derive(Debug, Clone, Default)]
pub struct Owner {
    /// Number of the client connection.
    pub client: u64,
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: u32,
    /// Name that the client gave itself.
    pub name: String,
    /// Build of its package, as it says.
    pub build: String,
}

/// Time between two lines of the log about one lane, nanoseconds.
const LINE_EVERY_NS: u64 = 1_000_000_000;

/// One open lane.
#[derive(Debug)]
pub struct Lane {
    /// Lane number, from 1, never reused.
    pub number: u32,
    /// Who opened it.
    pub owner: Owner,
    /// Sizes.
    pub geometry: LaneGeometry,
    /// Whether its orders are cancelled when it ends.
    pub cancel_on_disconnect: bool,
    /// Whether the sequencer has stopped polling it.
    pub parked: bool,
    /// Work that it may still take in this round.
    pub deficit: i64,
    /// Doorbells since the last new slot.
    pub empty_doorbells: u32,
    /// Whether slots were served since the sequencer last looked around.
    pub busy: bool,
    /// Whether the board knows what has become of it.
    pub shown: bool,
    /// When the sequencer last found it busy, nanoseconds since 1970.
    pub busy_ns: u64,
    /// When it was opened, nanoseconds since 1970.
    pub opened_ns: u64,
    /// Times it was parked.
    pub parks: u64,
    /// Notifications sent.
    pub notifies: u64,
    /// Requests for accounts that the lane was not granted.
    pub not_permitted: u64,
    /// How many of them the log has told of, and when it did last, nanoseconds since 1970.
    told: (u64, u64),
    requests: Region,
    results: Region,
    doorbell: EventFd,
    notify: Arc<OwnedFd>,
    request_ring: RecordRing,
    result_ring: RecordRing,
    intake: Intake,
    answered: Answered,
    /// `completed` as the client sees it.
    completed: u64,
    events: EventRing,
}

/// The lane's events: numbered here, dropped and counted when the client lags.
#[derive(Debug)]
struct EventRing {
    ring: RecordRing,
    room: EventRoom,
    answered: Answered,
    /// Number of the last event, dropped ones included.
    number: u64,
    /// Events put into the ring.
    written: u64,
    /// `written` as the client sees it.
    published: u64,
    /// First event number that was dropped since the last GAP; 0 when none was.
    gap_first: u64,
    /// Last event number that was dropped.
    gap_last: u64,
    dropped: u64,
}

impl Lane {
    /// Reserves, maps and seals the regions of a new lane.
    pub fn create(
        number: u32,
        owner: Owner,
        geometry: LaneGeometry,
        cancel_on_disconnect: bool,
        notify: Arc<OwnedFd>,
        opened_ns: u64,
    ) -> Result<Self, String> {
        let lane = u64::from(number);
        let requests = Region::for_requests(geometry.requests_bytes(), &geometry.header(REQUESTS_MAGIC, lane, OrderRequest::SCHEMA_HASH))?;
        let results = Region::for_results(geometry.results_bytes(), &geometry.header(RESULTS_MAGIC, lane, OrderResult::SCHEMA_HASH))?;
        let doorbell = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|error| format!("cannot create a doorbell: {error}"))?;
        let request_ring = RecordRing::new(requests.bytes(), RING_OFFSET, geometry.depth_slots);
        let result_ring = RecordRing::new(results.bytes(), RING_OFFSET, geometry.depth_slots);
        let events = EventRing {
            ring: RecordRing::new(results.bytes(), geometry.event_ring_offset(), geometry.event_capacity),
            room: EventRoom::new(geometry.event_capacity),
            answered: Answered::default(),
            number: 0,
            written: 0,
            published: 0,
            gap_first: 0,
            gap_last: 0,
            dropped: 0,
        };
        Ok(Self {
            number,
            owner,
            geometry,
            cancel_on_disconnect,
            parked: false,
            deficit: 0,
            empty_doorbells: 0,
            busy: false,
            shown: false,
            busy_ns: 0,
            opened_ns,
            parks: 0,
            notifies: 0,
            not_permitted: 0,
            told: (0, 0),
            requests,
            results,
            doorbell,
            notify,
            request_ring,
            result_ring,
            intake: Intake::new(geometry.depth_slots, 0),
            answered: Answered::default(),
            completed: 0,
            events,
        })
    }

    /// Duplicates of what the client gets at open: requests, results, doorbell.
    pub fn fds(&self) -> std::io::Result<[OwnedFd; 3]> {
        let [requests, results] = [self.requests.memory(), self.results.memory()];
        Ok([requests.hand_out(true)?, results.hand_out(false)?, self.doorbell.as_fd().try_clone_to_owned()?])
    }

    /// The memory of both regions, to be watched until nobody has it any more.
    #[must_use]
    pub fn memory(&self) -> [Memory; 2] {
        [self.requests.memory(), self.results.memory()].map(Clone::clone)
    }

    /// The eventfd that the client writes when the lane is parked.
    #[must_use]
    pub fn doorbell(&self) -> &EventFd {
        &self.doorbell
    }

    /// Checked cursors: submitted, completed as the client sees it, released.
    #[must_use]
    pub fn cursors(&self) -> (u64, u64, u64) {
        (self.intake.submitted(), self.completed, self.intake.released())
    }

    /// Completed slots that the client no longer looks at, as it says: for the board, nothing is decided by it.
    #[must_use]
    pub fn let_go(&self) -> u64 {
        let says = self.requests.bytes().word(requests_word::LET_GO).load(Ordering::Relaxed);
        says.min(self.completed).max(self.intake.released())
    }

    /// Event counts: published in the ring, dropped.
    #[must_use]
    pub fn event_counts(&self) -> (u64, u64) {
        (self.events.published, self.events.dropped)
    }

    /// Size of both regions, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.geometry.requests_bytes() + self.geometry.results_bytes()
    }

    /// How many slots wait; a fault when the client's cursors lie.
    #[inline]
    pub fn look(&mut self) -> Result<u64, LaneStatus> {
        self.intake.look(ClientWords::of(&self.requests.bytes()))
    }

    /// Takes in what the client gave back since it last submitted.
    pub fn look_released(&mut self) {
        self.intake.look_released(ClientWords::of(&self.requests.bytes()));
    }

    /// First slot that is not done.
    #[inline]
    #[must_use]
    pub fn next_slot(&self) -> u64 {
        self.intake.taken()
    }

    /// Copies waiting requests, once, into private memory.
    #[inline]
    pub fn copy_requests(&self, into: &mut [RecordBytes]) {
        self.request_ring.read(self.intake.taken(), bytemuck::cast_slice_mut(into));
    }

    /// Whether its requests can belong to spans.
    #[inline]
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.geometry.arena_bytes > 0
    }

    /// The sampled span that a slot's request belongs to, in a traced lane.
    #[inline]
    #[must_use]
    pub fn span_context(&self, slot: u64) -> Option<SpanContext> {
        let (at, requests) = (self.geometry.span_context_offset(slot), self.requests.bytes());
        // One word tells of nearly all slots that nobody wants to see.
        if requests.word(at + SpanContext::FLAGS).load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut bytes = [0; SPAN_CONTEXT_BYTES];
        requests.read(at, &mut bytes);
        SpanContext::sampled(&bytes)
    }

    /// Writes results into the slots that follow; they are not visible before [`Lane::complete`].
    #[inline]
    pub fn write_results(&mut self, results: &[OrderResult]) {
        self.result_ring.write(self.intake.taken(), bytemuck::cast_slice(results));
        self.intake.take(results.len() as u64);
    }

    /// Makes all written results visible, and wakes the client if it sleeps for them.
    #[inline]
    pub fn complete(&mut self) {
        self.complete_to(self.intake.taken());
    }

    /// Makes the results below `completed` visible; as [`Lane::complete`].
    #[inline]
    pub fn complete_to(&mut self, completed: u64) {
        debug_assert!((self.completed..=self.intake.taken()).contains(&completed));
        self.completed = completed;
        let (requests, results) = (self.requests.bytes(), self.results.bytes());
        if ring::complete(SidecarWords::of(&results), ClientWords::of(&requests), &mut self.answered, completed) {
            self.notify();
        }
        self.result_ring.expect_write(self.intake.taken());
    }

    /// Numbers an event and puts it into the ring, or drops it. True: [`Lane::publish_events`] is due.
    pub fn push_event(&mut self, mut event: OrderEvent) -> Result<bool, LaneStatus> {
        self.events.number += 1;
        event.number = self.events.number;
        self.flush_gap()?;
        let requests = self.requests.bytes();
        let events = &mut self.events;
        if events.gap_first != 0 || events.room.room(ClientWords::of(&requests), events.written, 1)? == 0 {
            events.dropped += 1;
            events.gap_last = event.number;
            if events.gap_first == 0 {
                events.gap_first = event.number;
            }
            return Ok(false);
        }
        events.put(&event);
        Ok(true)
    }

    /// Tells of dropped events as soon as there is room for the GAP and one event more.
    fn flush_gap(&mut self) -> Result<(), LaneStatus> {
        let requests = self.requests.bytes();
        let events = &mut self.events;
        if events.gap_first == 0 || events.room.room(ClientWords::of(&requests), events.written, 2)? < 2 {
            return Ok(());
        }
        let gap = OrderEvent { number: events.gap_last, sequence: events.gap_first, kind: EventKind::Gap as u8, ..OrderEvent::zeroed() };
        events.gap_first = 0;
        events.put(&gap);
        Ok(())
    }

    /// Puts a lagging reader's gap into the ring also when no further event comes. True: nothing is left to put there.
    pub fn retry_gap(&mut self) -> Result<bool, LaneStatus> {
        self.flush_gap()?;
        Ok(self.events.gap_first == 0)
    }

    /// Makes all events in the ring visible, and wakes the client if it sleeps for them.
    pub fn publish_events(&mut self) {
        self.publish_events_to(self.events.written);
    }

    /// Events in the ring, those included that are not visible yet.
    #[must_use]
    pub fn events_written(&self) -> u64 {
        self.events.written
    }

    /// Makes the events below `written` visible; as [`Lane::publish_events`].
    pub fn publish_events_to(&mut self, written: u64) {
        if self.events.published >= written {
            return;
        }
        self.events.published = written;
        let (requests, results) = (self.requests.bytes(), self.results.bytes());
        if ring::publish_events(SidecarWords::of(&results), ClientWords::of(&requests), &mut self.events.answered, written) {
            self.notify();
        }
    }

    /// Stops polling; false when slots came in between.
    pub fn park(&mut self) -> bool {
        let (requests, results) = (self.requests.bytes(), self.results.bytes());
        self.parked = ring::park(SidecarWords::of(&results), ClientWords::of(&requests), self.intake.taken());
        self.parks += u64::from(self.parked);
        self.parked
    }

    /// Polls again.
    pub fn unpark(&mut self) {
        self.parked = false;
        ring::unpark(SidecarWords::of(&self.results.bytes()));
    }

    /// Tells the client that the lane is over.
    pub fn close(&mut self, status: LaneStatus) {
        ring::close(SidecarWords::of(&self.results.bytes()), status);
        self.notify();
    }

    /// Counts requests for accounts that the lane was not granted, and tells of them once a second at most.
    #[cold]
    pub fn note_not_permitted(&mut self, count: u64, now_ns: u64) {
        self.not_permitted += count;
        let (told, at_ns) = self.told;
        if told == 0 || now_ns.saturating_sub(at_ns) >= LINE_EVERY_NS {
            let (lane, uid, pid, untold) = (self.number, self.owner.uid, self.owner.pid, self.not_permitted - told);
            tracing::warn!(lane, uid, pid, requests = untold, "refused: its lane was not granted the account of these requests");
            self.told = (self.not_permitted, now_ns);
        }
    }

    /// One byte on the client's notify socket. A full socket means that a wake is already pending.
    fn notify(&mut self) {
        self.notifies += 1;
        crash::point("wake.before");
        let _ = send(self.notify.as_raw_fd(), &[1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        crash::point("wake.after");
    }
}

impl EventRing {
    fn put(&mut self, event: &OrderEvent) {
        self.ring.write(self.written, bytemuck::bytes_of(event));
        self.written += 1;
    }
}
