//! One lane: its two regions, its cursors and the slots between them. What stands in a slot never enters here.

use crate::call;
use crate::descriptor::Descriptor;
use crate::error::Trouble;
use crate::field::{Field, FieldArgument, used_bits};
use crate::fork;
use crate::gil;
use crate::lease::Lease;
use crate::region::{DoubleRing, Plain, check};
use crate::slots::{Obstacle, Open, Serial, Slots};
use crate::wait::{Hub, Notifications, lock};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use ringlane_layout::limits::{PAGE_BYTES, RECORD_BYTES};
use ringlane_layout::primitive::Ordering;
use ringlane_layout::region::{LaneGeometry, REQUESTS_MAGIC, RESULTS_MAGIC, RING_OFFSET, requests_word, results_word};
use ringlane_layout::ring::{self, ClientWords, SidecarWords};
use ringlane_layout::shared::RecordRing;
use std::hint::spin_loop;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a waiter without the GIL spins, then yields its core, before it sleeps.
const SPIN: Duration = Duration::from_micros(10);
const YIELD: Duration = Duration::from_micros(60);

/// How long slots at which arrays still look are waited for when no timeout is given.
const LOOKS_GRACE: Duration = Duration::from_secs(1);

/// What a waiter waits for.
#[derive(Clone, Copy)]
pub enum Goal {
    /// `completed` at least this.
    Completed(u64),
    /// `events_published` at least this.
    Events(u64),
}

/// The request ring, and the slots in it; changed together.
pub struct Desk {
    pub slots: Slots,
    pub ring: Arc<DoubleRing>,
    /// Counts replacements of `ring`.
    ring_number: u64,
}

/// Everything that outlives the Python object: leases hold it too.
pub struct Exchange {
    pub hub: Arc<Notifications>,
    generation: u64,
    pid: u32,
    number: u64,
    geometry: LaneGeometry,
    requests_header: Plain,
    requests_file: Descriptor,
    results: Plain,
    results_ring: Arc<DoubleRing>,
    doorbell: Descriptor,
    used_bits: [u64; RECORD_BYTES / 8],
    desk: Mutex<Desk>,
    freed: Condvar,
    /// Targets of all who sleep for `completed`; the smallest one is announced.
    sleepers: Mutex<Vec<u64>>,
    events_read: Mutex<u64>,
}

impl Exchange {
    #[inline]
    fn mine(&self) -> ClientWords<'_> {
        let word = |offset| self.requests_header.word(offset);
        ClientWords {
            submitted: word(requests_word::SUBMITTED),
            released: word(requests_word::RELEASED),
            events_read: word(requests_word::EVENTS_READ),
            waiting: word(requests_word::WAITING),
            events_waiting: word(requests_word::EVENTS_WAITING),
        }
    }

    #[inline]
    fn peer(&self) -> SidecarWords<'_> {
        let word = |offset| self.results.word(offset);
        SidecarWords {
            completed: word(results_word::COMPLETED),
            asleep: word(results_word::ASLEEP),
            status: word(results_word::STATUS),
            events_published: word(results_word::EVENTS_PUBLISHED),
        }
    }

    #[inline]
    pub fn completed(&self) -> u64 {
        ring::completed(self.peer())
    }

    /// Whether there is still somebody to work for this lane.
    #[inline]
    pub fn alive(&self) -> Result<(), Trouble> {
        if self.generation != fork::generation() {
            return Err(Trouble::Forked(self.pid));
        }
        match ring::status(self.peer()) {
            0 if self.hub.has_ended() => Err(Trouble::Lost),
            0 => Ok(()),
            status => Err(Trouble::Faulted(status)),
        }
    }

    /// The desk of a lane that takes work.
    #[inline]
    fn desk(&self) -> Result<MutexGuard<'_, Desk>, Trouble> {
        self.alive()?;
        let desk = lock(&self.desk);
        if desk.slots.closed { Err(Trouble::Closed) } else { Ok(desk) }
    }

    /// Makes all submitted slots visible; the caller holds the desk. True: ring the doorbell.
    #[inline]
    fn publish(&self, slots: &mut Slots) -> bool {
        // Told late, because the sidecar needs it only to see that submitted slots are free, and its cache line is cold.
        if slots.submitted - slots.told > self.geometry.depth_slots / 2 {
            self.tell_released(slots);
        }
        ring::publish(self.mine(), self.peer(), slots.submitted)
    }

    fn tell_released(&self, slots: &mut Slots) {
        if slots.told != slots.released {
            slots.told = slots.released;
            ring::release(self.mine(), slots.told);
        }
    }

    #[cold]
    fn ring_doorbell(&self) {
        // An eventfd takes a write unless its count is near 2^64.
        let _ = nix::unistd::write(self.doorbell.as_fd(), &1_u64.to_ne_bytes());
    }

    /// Submits one record: its serial and slot, or what is in the way.
    #[inline]
    pub fn submit_one(&self, record: &[u8]) -> Result<Result<(Serial, u64), Obstacle>, Trouble> {
        let completed = self.completed();
        let mut desk = self.desk()?;
        let (serial, slot) = match desk.slots.submit_one(completed) {
            Ok(submitted) => submitted,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        desk.ring.bytes().write(desk.ring.offset(slot), &record[..RECORD_BYTES]);
        let asleep = self.publish(&mut desk.slots);
        drop(desk);
        if asleep {
            self.ring_doorbell();
        }
        Ok(Ok((serial, slot)))
    }

    fn reserve(&self, count: u64, blank: bool) -> Result<Result<(u64, u64), Obstacle>, Trouble> {
        let completed = self.completed();
        let mut desk = self.desk()?;
        let first = match desk.slots.reserve(count, completed, thread::current().id()) {
            Ok(open) => open.first,
            Err(obstacle) => return Ok(Err(obstacle)),
        };
        if blank {
            desk.ring.blank(first, count);
        }
        Ok(Ok((first, desk.ring_number)))
    }

    /// Clears the bits of the open reservation's records that belong to no field: padding of numpy's is not always zero.
    fn scrub(&self, ring: &DoubleRing, open: &Open) {
        let (bytes, base) = (ring.bytes(), ring.offset(open.first));
        for (index, &used) in self.used_bits.iter().enumerate().filter(|&(_, &used)| used != u64::MAX) {
            for slot in 0..open.count as usize {
                let word = bytes.word(base + slot * RECORD_BYTES + index * 8);
                let value = word.load(Ordering::Relaxed);
                if value & !used != 0 {
                    word.store(value & used, Ordering::Relaxed);
                }
            }
        }
    }

    /// Copies the result of a completed slot out.
    #[inline]
    pub fn read_result(&self, slot: u64, into: &mut [u8]) {
        let ring_bytes = self.geometry.ring_bytes();
        let offset = RING_OFFSET + ((slot as usize * RECORD_BYTES) & (ring_bytes - 1));
        self.results.bytes().read(offset, &mut into[..RECORD_BYTES]);
    }

    /// One look less at the slots of `serial`.
    #[inline]
    pub fn unpin(&self, serial: Serial) {
        if self.generation != fork::generation() {
            return; // in a fork another thread's lock may be held for ever
        }
        let completed = self.completed();
        let mut desk = lock(&self.desk);
        desk.slots.unpin(serial, completed);
        if desk.slots.waiters > 0 {
            self.freed.notify_all();
        }
    }

    fn reached(&self, goal: Goal) -> bool {
        match goal {
            Goal::Completed(target) => self.completed() >= target,
            Goal::Events(target) => ring::events_published(self.peer()) >= target,
        }
    }

    /// Whether waiting for `goal` is over, one way or the other.
    fn settled(&self, goal: Goal) -> bool {
        self.reached(goal) || self.alive().is_err()
    }

    /// Says what this process sleeps for. True: it must not sleep.
    fn announce(&self, goal: Goal) -> bool {
        let Goal::Completed(_) = goal else { return self.announce_events(goal) };
        let sleepers = lock(&self.sleepers);
        // Each turn, a nearer target was reached in between: at most as many turns as there are sleepers.
        while !self.settled(goal) {
            let completed = self.completed();
            let nearest = sleepers.iter().copied().filter(|&target| target > completed).min();
            if nearest.is_some_and(|nearest| !ring::announce_wait(self.mine(), self.peer(), nearest)) {
                return self.hub.has_ended();
            }
        }
        true
    }

    fn announce_events(&self, goal: Goal) -> bool {
        let Goal::Events(target) = goal else { return true };
        ring::announce_events_wait(self.mine(), self.peer(), target) || self.hub.has_ended()
    }

    fn enlist(&self, goal: Goal) {
        if let Goal::Completed(target) = goal {
            lock(&self.sleepers).push(target);
        }
    }

    fn withdraw(&self, goal: Goal) {
        if let Goal::Completed(target) = goal {
            let mut sleepers = lock(&self.sleepers);
            if let Some(index) = sleepers.iter().position(|&sleeper| sleeper == target) {
                sleepers.swap_remove(index);
            }
            // Others announce anew after each wake-up; nobody left means no more notifications.
            if sleepers.is_empty() {
                self.mine().waiting.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Spins, then yields. True: settled.
    fn linger(&self, goal: Goal) -> bool {
        let begin = Instant::now();
        loop {
            for _ in 0..32 {
                if self.reached(goal) {
                    return true;
                }
                spin_loop();
            }
            let spent = begin.elapsed();
            if spent > YIELD || self.alive().is_err() {
                return self.settled(goal);
            }
            if spent > SPIN {
                thread::yield_now();
            }
        }
    }

    /// Waits without the GIL; honours signals and the deadline. What was completed before an end is still good.
    pub fn wait(&self, py: Python<'_>, goal: Goal, deadline: Option<Instant>) -> Result<(), Trouble> {
        if !self.settled(goal) && !gil::released(py, || self.linger(goal)) {
            self.enlist(goal);
            let waited = self.sleep(py, goal, deadline);
            self.withdraw(goal);
            waited?;
        }
        if self.reached(goal) { Ok(()) } else { self.alive() }
    }

    fn sleep(&self, py: Python<'_>, goal: Goal, deadline: Option<Instant>) -> Result<(), Trouble> {
        loop {
            let settled = gil::released(py, || {
                let epoch = self.hub.epoch();
                if self.announce(goal) {
                    return true;
                }
                self.hub.sleep(epoch, gil::next_look(deadline));
                self.settled(goal)
            });
            if settled {
                return Ok(());
            }
            py.check_signals()?;
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let words = match goal {
                    Goal::Completed(target) => format!("slot {} was not completed", target - 1),
                    Goal::Events(_) => "no event came".to_owned(),
                };
                return Err(Trouble::Timeout(format!("{words} within the time given")));
            }
        }
    }

    /// Sleeps until a pin goes or a reservation ends, at most until the next look at signals.
    fn wait_freed(&self, py: Python<'_>, deadline: Option<Instant>) -> Result<(), Trouble> {
        gil::released(py, || {
            let mut desk = lock(&self.desk);
            desk.slots.waiters += 1;
            let rest = gil::next_look(deadline).saturating_duration_since(Instant::now());
            let (mut desk, _) = self.freed.wait_timeout(desk, rest).unwrap_or_else(PoisonError::into_inner);
            desk.slots.waiters -= 1;
        });
        Ok(py.check_signals()?)
    }

    /// Removes an obstacle by waiting, or says why that cannot be.
    pub fn wait_for_room(&self, py: Python<'_>, obstacle: Obstacle, patience: &Patience) -> Result<(), Trouble> {
        let Patience { deadline, deadline_of_looks } = *patience;
        let late = |deadline: Option<Instant>| deadline.is_some_and(|deadline| Instant::now() >= deadline);
        match obstacle {
            Obstacle::Unfinished(end) => self.wait(py, Goal::Completed(end), deadline),
            Obstacle::Reservation(owner) if owner == thread::current().id() => Err(Trouble::Misuse(
                "this thread already fills a reservation of this lane; leave its `with` block first (one reservation a lane)".to_owned(),
            )),
            Obstacle::Reservation(_) if late(deadline) => {
                Err(Trouble::Timeout("another thread did not finish its reservation in time".to_owned()))
            }
            Obstacle::Pinned(first, count, pins) if late(Some(deadline_of_looks)) => Err(Trouble::Full(format!(
                "lane {} is full: slots {first} to {} are completed, but {pins} array(s) or ticket(s) still look at them; \
                 drop those (`del results`), take copies (copy=True), or open the lane deeper than {} slots",
                self.number,
                first + count - 1,
                self.geometry.depth_slots
            ))),
            Obstacle::Reservation(_) => self.wait_freed(py, deadline),
            Obstacle::Pinned(..) => self.wait_freed(py, Some(deadline_of_looks)),
        }
    }

    fn take_events(&self, py: Python<'_>, max: u64) -> PyResult<Py<PyByteArray>> {
        let capacity = self.geometry.event_capacity;
        let ahead = |read: u64| ring::events_published(self.peer()).wrapping_sub(read);
        let count = ahead(*lock(&self.events_read));
        if count > capacity {
            return Err(Trouble::Mismatch(format!("the sidecar says that {count} events wait in a ring of {capacity}")).into());
        }
        let mut taken = 0;
        let bytes = PyByteArray::new_with(py, count.min(max) as usize * RECORD_BYTES, |into| {
            let mut read = lock(&self.events_read);
            taken = ahead(*read).min((into.len() / RECORD_BYTES) as u64);
            let events = RecordRing::new(self.results.bytes(), self.geometry.event_ring_offset(), capacity);
            events.read(*read, &mut into[..taken as usize * RECORD_BYTES]);
            *read += taken;
            ring::release_events(self.mine(), *read);
            Ok(())
        })?;
        bytes.resize(taken as usize * RECORD_BYTES)?;
        Ok(bytes.unbind())
    }
}

/// One lane of a client. Takes the descriptors over.
#[pyclass(frozen, weakref, module = "ringlane._shim")]
pub struct Lane {
    pub exchange: Arc<Exchange>,
    pub request_fields: Box<[Field]>,
    pub result_fields: Box<[Field]>,
    pub timeout: Option<Duration>,
}

/// How long somebody who wants slots waits.
pub struct Patience {
    pub deadline: Option<Instant>,
    /// Only this process can end its looks at completed slots, and perhaps it is this very thread that should: without a
    /// deadline, these are waited for only so long.
    deadline_of_looks: Instant,
}

impl Patience {
    pub fn new(timeout: Option<Duration>) -> Self {
        let now = Instant::now();
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        Self { deadline, deadline_of_looks: deadline.unwrap_or(now + LOOKS_GRACE) }
    }
}

fn deadline_after(timeout_ns: Option<u64>) -> Option<Instant> {
    timeout_ns.and_then(|timeout| Instant::now().checked_add(Duration::from_nanos(timeout)))
}

impl Lane {
    /// A target as Python says it: 0 is the next event.
    fn goal(&self, target: u64) -> Goal {
        if target == 0 { Goal::Events(*lock(&self.exchange.events_read) + 1) } else { Goal::Completed(target) }
    }
}

fn header_matches(name: &str, region: &Plain, expected: &[u8]) -> Result<(), Trouble> {
    let mut header = [0; 48];
    region.bytes().read(0, &mut header);
    if header[..expected.len()] == *expected {
        return Ok(());
    }
    Err(Trouble::Mismatch(format!("the header of the {name} region is not the one that the sidecar described")))
}

fn open(
    hub: &Hub,
    files: [Descriptor; 3],
    sizes: (u64, u64, u64),
    hashes: (u64, u64),
    spans: &[(usize, usize)],
) -> Result<Exchange, Trouble> {
    let [requests_file, results_file, doorbell] = files;
    let (number, depth, events) = sizes;
    let geometry = LaneGeometry::new(depth, events).map_err(Trouble::Mismatch)?;
    if geometry != (LaneGeometry { depth_slots: depth, event_capacity: events }) {
        return Err(Trouble::Mismatch(format!("depth {depth} and events {events} must be powers of two")));
    }
    check("requests", &requests_file, geometry.requests_bytes(), false)?;
    check("results", &results_file, geometry.results_bytes(), true)?;
    let requests_header = Plain::new(&requests_file, PAGE_BYTES, true)?;
    let results = Plain::new(&results_file, geometry.results_bytes(), false)?;
    // The event capacity stands in both headers, but only the one of `results` must have it.
    header_matches("requests", &requests_header, &geometry.header(REQUESTS_MAGIC, number, hashes.0)[..40])?;
    header_matches("results", &results, &geometry.header(RESULTS_MAGIC, number, hashes.1))?;
    let ring = Arc::new(DoubleRing::new(&requests_file, geometry.ring_bytes(), true)?);
    Ok(Exchange {
        hub: hub.0.clone(),
        generation: fork::generation(),
        pid: std::process::id(),
        number,
        geometry,
        requests_header,
        requests_file,
        results,
        results_ring: Arc::new(DoubleRing::new(&results_file, geometry.ring_bytes(), false)?),
        doorbell,
        used_bits: used_bits(spans),
        desk: Mutex::new(Desk { slots: Slots::new(depth), ring, ring_number: 0 }),
        freed: Condvar::new(),
        sleepers: Mutex::new(Vec::new()),
        events_read: Mutex::new(0),
    })
}

#[pymethods]
impl Lane {
    #[new]
    #[pyo3(signature = (hub, requests, results, doorbell, *, lane, depth, events, request_hash, result_hash, request_fields, request_spans, result_fields, timeout_ns=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        hub: &Hub,
        requests: i32,
        results: i32,
        doorbell: i32,
        lane: u64,
        depth: u64,
        events: u64,
        request_hash: u64,
        result_hash: u64,
        request_fields: Vec<FieldArgument>,
        request_spans: Vec<(usize, usize)>,
        result_fields: Vec<FieldArgument>,
        timeout_ns: Option<u64>,
    ) -> PyResult<Self> {
        let [requests, results, doorbell] = [requests, results, doorbell].map(Descriptor::adopt);
        let files = [requests?, results?, doorbell?];
        let exchange = open(hub, files, (lane, depth, events), (request_hash, result_hash), &request_spans)?;
        let fields = |arguments: Vec<FieldArgument>| arguments.into_iter().map(Field::new).collect::<PyResult<Box<[Field]>>>();
        let (request_fields, result_fields) = (fields(request_fields)?, fields(result_fields)?);
        let timeout = timeout_ns.map(Duration::from_nanos);
        Ok(Self { exchange: Arc::new(exchange), request_fields, result_fields, timeout })
    }

    /// The builtin that submits one record and waits for its answer.
    #[getter]
    fn call(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        call::bind(slf)
    }

    /// Opens a reservation: (first slot, number of the request ring). Waits for room; `blank` sets the slots to zero.
    #[pyo3(signature = (count, timeout_ns=None, blank=true))]
    fn reserve(&self, py: Python<'_>, count: u64, timeout_ns: Option<u64>, blank: bool) -> PyResult<(u64, u64)> {
        let depth = self.exchange.geometry.depth_slots;
        if count == 0 || count > depth {
            return Err(PyValueError::new_err(format!("a reservation holds 1 to {depth} slots (the lane's depth), not {count}")));
        }
        let patience = Patience::new(timeout_ns.map(Duration::from_nanos));
        loop {
            match self.exchange.reserve(count, blank)? {
                Ok(reserved) => return Ok(reserved),
                Err(obstacle) => self.exchange.wait_for_room(py, obstacle, &patience)?,
            }
        }
    }

    /// A writable look at the open reservation's slots, which it pins.
    fn request_lease(&self) -> PyResult<Lease> {
        let mut desk = self.exchange.desk()?;
        let ring = desk.ring.clone();
        let open = desk.slots.open.as_mut().ok_or_else(|| Trouble::Misuse("no reservation is open".to_owned()))?;
        open.pins += 1;
        Ok(Lease { exchange: self.exchange.clone(), ring, serial: Some(open.serial), first: open.first, count: open.count })
    }

    /// The whole request ring, twice in a row; pins nothing and is only for copies into an open reservation.
    fn request_ring(&self) -> PyResult<Lease> {
        let ring = self.exchange.desk()?.ring.clone();
        let count = 2 * self.exchange.geometry.depth_slots;
        Ok(Lease { exchange: self.exchange.clone(), ring, serial: None, first: 0, count })
    }

    /// Submits the open reservation, and gives a pinning look at its results (true only once completed).
    fn commit(&self) -> PyResult<Lease> {
        let exchange = &self.exchange;
        let mut desk = exchange.desk()?;
        let open = desk.slots.open.take().ok_or_else(|| Trouble::Misuse("no reservation is open".to_owned()))?;
        exchange.scrub(&desk.ring, &open);
        desk.slots.submit(&open);
        exchange.tell_released(&mut desk.slots);
        let asleep = exchange.publish(&mut desk.slots);
        if desk.slots.waiters > 0 {
            exchange.freed.notify_all();
        }
        drop(desk);
        if asleep {
            exchange.ring_doorbell();
        }
        let ring = exchange.results_ring.clone();
        Ok(Lease { exchange: exchange.clone(), ring, serial: Some(open.serial), first: open.first, count: open.count })
    }

    /// Ends the open reservation as if it had never been. Arrays that still look at its slots get private memory instead.
    fn abandon(&self) -> PyResult<()> {
        let exchange = &self.exchange;
        if exchange.generation != fork::generation() {
            return Ok(());
        }
        let mut desk = lock(&exchange.desk);
        let Some(open) = desk.slots.open.take() else { return Ok(()) };
        if open.pins > 0 {
            let fresh = DoubleRing::new(&exchange.requests_file, exchange.geometry.ring_bytes(), true)?;
            std::mem::replace(&mut desk.ring, Arc::new(fresh)).detach()?;
            desk.ring_number += 1;
        }
        exchange.freed.notify_all();
        Ok(())
    }

    /// Waits until all slots below `target` are completed.
    #[pyo3(signature = (target, timeout_ns=None))]
    fn wait(&self, py: Python<'_>, target: u64, timeout_ns: Option<u64>) -> PyResult<()> {
        if self.exchange.generation != fork::generation() {
            self.exchange.alive()?;
        }
        if target > lock(&self.exchange.desk).slots.submitted {
            return Err(PyValueError::new_err("the slot was never submitted"));
        }
        Ok(self.exchange.wait(py, Goal::Completed(target), deadline_after(timeout_ns))?)
    }

    /// Whether waiting for `target` would be over at once, one way or the other.
    fn settled(&self, target: u64) -> bool {
        self.exchange.settled(Goal::Completed(target))
    }

    /// Waits until an event can be taken.
    #[pyo3(signature = (timeout_ns=None))]
    fn wait_events(&self, py: Python<'_>, timeout_ns: Option<u64>) -> PyResult<()> {
        self.exchange.desk().map(drop)?;
        let goal = Goal::Events(*lock(&self.exchange.events_read) + 1);
        Ok(self.exchange.wait(py, goal, deadline_after(timeout_ns))?)
    }

    /// Takes at most `max` events out of the event ring, as bytes.
    fn take_events(&self, py: Python<'_>, max: u64) -> PyResult<Py<PyByteArray>> {
        if self.exchange.generation != fork::generation() {
            self.exchange.alive()?;
        }
        self.exchange.take_events(py, max)
    }

    /// For event loops: notes that somebody sleeps until `target` is completed (0: until the next event), until `withdraw`.
    fn enlist(&self, target: u64) {
        self.exchange.enlist(self.goal(target));
    }

    /// For event loops: tells the sidecar. True: it is there, or never will be; do not sleep.
    fn announce(&self, target: u64) -> bool {
        self.exchange.generation != fork::generation() || self.exchange.announce(self.goal(target))
    }

    /// For event loops: the end of `enlist`.
    fn withdraw(&self, target: u64) {
        if self.exchange.generation == fork::generation() {
            self.exchange.withdraw(self.goal(target));
        }
    }

    /// The cursors: (submitted, completed, released, events published, events read).
    #[getter]
    fn cursors(&self) -> PyResult<(u64, u64, u64, u64, u64)> {
        let exchange = &self.exchange;
        let completed = exchange.completed();
        let mut desk = exchange.desk()?;
        desk.slots.advance(completed);
        let events = ring::events_published(exchange.peer());
        Ok((desk.slots.submitted, completed, desk.slots.released, events, *lock(&exchange.events_read)))
    }

    /// Raises what ended the lane, if something did.
    fn check(&self) -> PyResult<()> {
        Ok(self.exchange.desk().map(drop)?)
    }

    /// Refuses all further work. Arrays over the slots stay readable.
    fn close(&self) {
        if self.exchange.generation == fork::generation() {
            lock(&self.exchange.desk).slots.closed = true;
            self.exchange.freed.notify_all();
        }
    }
}
