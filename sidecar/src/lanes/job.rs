//! A lane of a kernel that runs as jobs: slots of any size, arenas, no events. Its memory may be touched by several threads of
//! the pool; its cursors belong to whoever holds them. What is computed never enters here.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, send};
use ringlane_layout::primitive::Ordering;
use ringlane_layout::region::{LaneGeometry, LaneStatus, REQUESTS_MAGIC, RESULTS_MAGIC, requests_word};
use ringlane_layout::ring::{self, Answered, ClientWords, Intake, SidecarWords};
use ringlane_layout::shared::SharedBytes;

use super::{Memory, Owner, Region};

/// The memory of one lane, and the ways to its client.
#[derive(Debug)]
pub struct JobLane {
    /// Lane number, never reused in the life of a sidecar.
    pub number: u32,
    /// Who opened it.
    pub owner: Owner,
    /// Sizes.
    pub geometry: LaneGeometry,
    /// When it was opened, nanoseconds since 1970.
    pub opened_ns: u64,
    requests: Region,
    results: Region,
    doorbell: EventFd,
    notify: Arc<OwnedFd>,
}

/// What has been checked of the client's cursors, and what was told to it.
#[derive(Debug)]
pub struct JobCursors {
    intake: Intake,
    answered: Answered,
    /// Whether the client must ring its doorbell.
    pub parked: bool,
    /// Times it was parked.
    pub parks: u64,
    /// Notifications sent.
    pub notifies: u64,
    /// Doorbells since the last new slot.
    pub empty_doorbells: u32,
}

impl JobLane {
    /// Reserves, maps and seals the regions of a new lane, whose records have these schema hashes (request, result).
    pub fn create(
        number: u32,
        owner: Owner,
        geometry: LaneGeometry,
        hashes: (u64, u64),
        notify: Arc<OwnedFd>,
        opened_ns: u64,
    ) -> Result<(Self, JobCursors), String> {
        let lane = u64::from(number);
        let requests = Region::for_requests(geometry.requests_bytes(), &geometry.header(REQUESTS_MAGIC, lane, hashes.0))?;
        let results = Region::for_results(geometry.results_bytes(), &geometry.header(RESULTS_MAGIC, lane, hashes.1))?;
        let doorbell = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|error| format!("cannot create a doorbell: {error}"))?;
        let intake = Intake::new(geometry.depth_slots, 0);
        let cursors = JobCursors { intake, answered: Answered::default(), parked: false, parks: 0, notifies: 0, empty_doorbells: 0 };
        Ok((Self { number, owner, geometry, opened_ns, requests, results, doorbell, notify }, cursors))
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

    /// Size of both regions, bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.geometry.requests_bytes() + self.geometry.results_bytes()
    }

    /// Copies request slots from `first` on into private memory; whole slots, at most the ring's.
    pub fn copy_requests(&self, first: u64, into: &mut [u8]) {
        let (bytes, at, end) = (self.requests.bytes(), self.geometry.request_offset(first), self.geometry.arena_offset());
        let before_wrap = into.len().min(end - at);
        bytes.read_bulk(at, &mut into[..before_wrap]);
        if before_wrap < into.len() {
            bytes.read_bulk(self.geometry.request_offset(0), &mut into[before_wrap..]);
        }
    }

    /// Writes result slots from `first` on; they are not visible before [`JobCursors::complete`].
    pub fn write_results(&self, first: u64, from: &[u8]) {
        let (bytes, at, end) = (self.results.bytes(), self.geometry.result_offset(first), self.geometry.event_ring_offset());
        let (head, tail) = from.split_at(from.len().min(end - at));
        for (at, piece) in [(at, head), (self.geometry.result_offset(0), tail)] {
            bytes.write_bulk(at, piece);
        }
    }

    /// Refuses a payload that does not lie inside of the arena.
    pub fn check_payload(&self, (offset, length): (u64, u64)) -> Result<(), LaneStatus> {
        let end = offset.checked_add(length).filter(|end| *end <= self.geometry.arena_bytes);
        end.map(drop).ok_or(LaneStatus::PayloadOutOfRange)
    }

    /// Copies a piece of the arena, which was checked, into private memory.
    pub fn copy_payload(&self, offset: u64, into: &mut [u8]) {
        self.requests.bytes().read_bulk(self.geometry.arena_offset() + offset as usize, into);
    }

    /// Whether slots seem to wait beyond `submitted`: to be looked at again properly.
    #[must_use]
    pub fn is_ahead_of(&self, submitted: u64) -> bool {
        let requests = self.requests.bytes();
        ClientWords::of(&requests).submitted.load(Ordering::Relaxed) != submitted
    }

    fn words(&self) -> (SharedBytes, SharedBytes) {
        (self.requests.bytes(), self.results.bytes())
    }

    /// One byte on the client's notify socket. A full socket means that a wake is already pending.
    fn notify(&self) {
        let _ = send(self.notify.as_raw_fd(), &[1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
    }
}

impl JobCursors {
    /// The checked `submitted`, looked at anew; a fault when the client's cursors lie.
    pub fn look(&mut self, lane: &JobLane) -> Result<u64, LaneStatus> {
        let before = self.intake.submitted();
        self.intake.look(ClientWords::of(&lane.words().0))?;
        if self.intake.submitted() != before {
            self.empty_doorbells = 0;
        }
        Ok(self.intake.submitted())
    }

    /// Checked cursors: submitted, completed, released.
    #[must_use]
    pub const fn cursors(&self) -> (u64, u64, u64) {
        (self.intake.submitted(), self.intake.taken(), self.intake.released())
    }

    /// Completed slots that the client no longer looks at, as it says: for the board, nothing is decided by it.
    #[must_use]
    pub fn let_go(&mut self, lane: &JobLane) -> u64 {
        let requests = lane.requests.bytes();
        self.intake.look_released(ClientWords::of(&requests));
        let says = requests.word(requests_word::LET_GO).load(Ordering::Relaxed);
        says.min(self.intake.taken()).max(self.intake.released())
    }

    /// Makes all results below `completed` visible, and wakes the client if it sleeps for them.
    pub fn complete(&mut self, lane: &JobLane, completed: u64) {
        self.intake.take(completed - self.intake.taken());
        let (requests, results) = lane.words();
        if ring::complete(SidecarWords::of(&results), ClientWords::of(&requests), &mut self.answered, completed) {
            self.notifies += 1;
            lane.notify();
        }
    }

    /// Asks for doorbells from now on, when slots below `claimed` are done or being worked on; false when there are more.
    pub fn park(&mut self, lane: &JobLane, claimed: u64) -> bool {
        let (requests, results) = lane.words();
        self.parked = ring::park(SidecarWords::of(&results), ClientWords::of(&requests), claimed);
        self.parks += u64::from(self.parked);
        self.parked
    }

    /// No doorbells are needed.
    pub fn unpark(&mut self, lane: &JobLane) {
        self.parked = false;
        ring::unpark(SidecarWords::of(&lane.words().1));
    }

    /// Tells the client that the lane is over.
    pub fn close(&mut self, lane: &JobLane, status: LaneStatus) {
        ring::close(SidecarWords::of(&lane.words().1), status);
        self.notifies += 1;
        lane.notify();
    }
}
