//! The Python object of one lane: what it is given, checked, and passed to `exchange.rs`.

use crate::call;
use crate::descriptor::Descriptor;
use crate::error::Trouble;
use crate::exchange::{Exchange, Goal, Patience, open};
use crate::field::{Field, FieldArgument, used_bits};
use crate::fork;
use crate::lease::Lease;
use crate::region::DoubleRing;
use crate::wait::{Hub, lock};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use ringlane_layout::ring;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One lane of a client. Takes the descriptors over.
#[pyclass(frozen, weakref, module = "ringlane._shim")]
pub struct Lane {
    pub exchange: Arc<Exchange>,
    pub request_fields: Box<[Field]>,
    pub result_fields: Box<[Field]>,
    pub timeout: Option<Duration>,
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
        let exchange = open(&hub.0, files, (lane, depth, events), (request_hash, result_hash), used_bits(&request_spans))?;
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
