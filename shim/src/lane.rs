//! The Python objects of one lane: the lane itself, and the leases by which arrays hold its slots. What is given is checked
//! here and passed to the layout crate's `Client`; how threads wait stands in `wait.rs`.

use crate::call;
use crate::error::{End, RinglaneError, SchemaMismatch};
use crate::fork::Descriptor;
use crate::hub::Hub;
use crate::region::Region;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList};
use ringlane_layout::client::{Client, Goal, Look, border::COUNTS};
use ringlane_layout::entries::Home;
use ringlane_layout::field::{FieldArgument, NumberField, WideRecord, number_fields, used_bits};
use ringlane_layout::limits::RECORD_BYTES;
use ringlane_layout::patience::{Patience, deadline_after};
use ringlane_layout::region::{LaneGeometry, LaneStatus, RING_OFFSET};
use ringlane_layout::slots::{Obstacle, Serial};
use std::sync::atomic::Ordering;
use std::time::Instant;

/// One lane of a client. Takes the descriptors over.
#[pyclass(frozen, weakref, module = "ringlane._shim")]
pub struct Lane {
    pub client: Client<Region>,
    pub hub: Py<Hub>,
    home: Home,
    pub number: u64,
    requests_file: Descriptor,
    doorbell: Descriptor,
    pub request_fields: Box<[NumberField]>,
    pub result_fields: Box<[NumberField]>,
    pub timeout_ns: Option<u64>,
}

impl Lane {
    /// Whether there is still somebody to work for this lane.
    #[inline]
    pub fn alive(&self) -> Result<(), End> {
        self.home.check(End::Forked)?;
        match self.client.status() {
            0 if !self.hub.get().has_ended() => Ok(()),
            status if self.is_away(status) => Ok(()),
            status => Err(self.end(status)),
        }
    }

    /// Whether the sidecar is away, and the lane goes on when it is back.
    #[cold]
    pub fn is_away(&self, status: u64) -> bool {
        let hub = self.hub.get();
        (status == LaneStatus::ShuttingDown as u64 || (status == 0 && hub.has_ended()))
            && hub.mends.load(Ordering::Relaxed)
            && !self.client.is_closed()
    }

    #[cold]
    fn end(&self, status: u64) -> End {
        match status {
            _ if self.client.is_closed() => End::Closed,
            0 => End::Lost,
            status if status == LaneStatus::Closed as u64 => End::Closed,
            status => End::Faulted(status),
        }
    }

    /// Ends the open reservation, if it is `serial`'s, as if it had never been. Arrays that look at its slots get private memory.
    fn abandon(&self, serial: Serial) -> PyResult<()> {
        if !self.home.is_here() {
            return Ok(());
        }
        self.client.abandon(serial, |old| {
            let fresh = Region::requests(&self.requests_file, self.client.geometry())?;
            old.detach_ring(self.client.geometry().request_ring_bytes()).map(|()| fresh)
        })
    }

    /// Submits one record: its serial and slot, or what is in the way.
    #[inline]
    pub fn submit_one(&self, record: &WideRecord) -> Result<Result<(Serial, u64), Obstacle>, End> {
        self.alive()?;
        Ok(self.client.submit_one(record).map(|(serial, slot, asleep)| {
            if asleep {
                self.ring_doorbell();
            }
            (serial, slot)
        }))
    }

    #[cold]
    fn ring_doorbell(&self) {
        // An eventfd takes a write unless its count is near 2^64.
        let _ = nix::unistd::write(&self.doorbell, &1_u64.to_ne_bytes());
    }

    /// A target as Python says it: 0 is the next event.
    fn goal(&self, target: u64) -> Goal {
        if target == 0 { self.client.next_event() } else { Goal::Completed(target) }
    }
}

#[pymethods]
impl Lane {
    #[new]
    #[pyo3(signature = (hub, files, *, lane, sizes, hashes, fields, request_spans, timeout_ns=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        hub: Py<Hub>,
        files: [i32; 3],
        lane: u64,
        sizes: [u64; 5],
        hashes: (u64, u64),
        fields: (Vec<FieldArgument>, Vec<FieldArgument>),
        request_spans: Vec<(usize, usize)>,
        timeout_ns: Option<u64>,
    ) -> PyResult<Self> {
        let [requests, results, doorbell] = files.map(Descriptor::adopt);
        let (requests_file, results_file, doorbell) = (requests?, results?, doorbell?);
        let geometry = LaneGeometry::granted(sizes).map_err(SchemaMismatch::new_err)?;
        let (requests, results) = (Region::requests(&requests_file, geometry)?, Region::results(&results_file, geometry)?);
        let used_bits = used_bits(&request_spans, geometry.request_slot_bytes);
        let client = Client::new(geometry, lane, hashes, used_bits, requests, results).map_err(SchemaMismatch::new_err)?;
        let fields = number_fields(fields.0).and_then(|requests| Ok((requests, number_fields(fields.1)?)));
        let (request_fields, result_fields) = fields.map_err(PyValueError::new_err)?;
        Ok(Self { client, hub, home: Home::here(), number: lane, requests_file, doorbell, request_fields, result_fields, timeout_ns })
    }

    /// The builtin that submits one record and waits for its answer.
    #[getter]
    fn call(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        call::bind(slf)
    }

    /// The whole request ring, twice in a row; pins nothing, and is for copies into an open reservation or out of a lane left.
    fn request_ring(slf: Bound<'_, Self>) -> Lease {
        Lease { look: slf.get().client.look_at_ring(), lane: slf.unbind() }
    }

    /// The payload arena, byte by byte; pins nothing.
    fn arena(slf: Bound<'_, Self>) -> Lease {
        Lease { look: slf.get().client.look_at_arena(), lane: slf.unbind() }
    }

    /// Waits until all slots below `target` are completed (0: until an event can be taken); `sleeps` says not to spin before.
    #[pyo3(signature = (target, timeout_ns=None, sleeps=false))]
    fn wait(&self, py: Python<'_>, target: u64, timeout_ns: Option<u64>, sleeps: bool) -> PyResult<()> {
        self.home.check(End::Forked)?;
        if !self.client.was_submitted(target) {
            return Err(PyValueError::new_err("the slot was never submitted"));
        }
        let since = Instant::now();
        let waited = self.wait_for(py, self.goal(target), deadline_after(timeout_ns), sleeps);
        self.client.border.waited(target, since);
        waited
    }

    /// What the border costs: the counts of the layout crate's `Border`, in their order.
    #[getter]
    fn border(&self) -> [u64; COUNTS] {
        self.client.border.counts()
    }

    /// Whether waiting for `target` would be over at once, one way or the other.
    fn settled(&self, target: u64) -> bool {
        self.is_settled(Goal::Completed(target))
    }

    /// Takes at most `max` events out of the event ring, as bytes.
    fn take_events<'py>(&self, py: Python<'py>, max: u64) -> PyResult<Bound<'py, PyByteArray>> {
        self.home.check(End::Forked)?;
        let count = self.client.events_ahead().map_err(SchemaMismatch::new_err)?.min(max);
        let mut taken = 0;
        let bytes = PyByteArray::new_with(py, count as usize * RECORD_BYTES, |into| {
            taken = self.client.take_events(into);
            Ok(())
        })?;
        bytes.resize(taken as usize * RECORD_BYTES)?; // another thread may have taken some
        Ok(bytes)
    }

    /// For event loops: notes that somebody sleeps until `target` is completed (0: until the next event), until `withdraw`.
    fn enlist(&self, target: u64) {
        if self.home.is_here() {
            self.client.enlist(self.goal(target));
        }
    }

    /// For event loops: tells the sidecar. True: it is there, or never will be; do not sleep.
    fn announce(&self, target: u64) -> bool {
        !self.home.is_here() || self.announced(self.goal(target))
    }

    /// For event loops: the end of `enlist`.
    fn withdraw(&self, target: u64) {
        if self.home.is_here() {
            self.client.withdraw(self.goal(target));
        }
    }

    /// Goes on in the fresh regions of a sidecar that was started anew, which has journaled so many slots. False: a reservation
    /// is open; try again later. Takes the descriptors over in any case.
    fn resume(&self, files: [i32; 3], journaled: u64) -> PyResult<bool> {
        self.home.check(End::Forked)?;
        let [requests, results, doorbell] = files.map(Descriptor::adopt);
        let (requests, results, doorbell, geometry) = (requests?, results?, doorbell?, self.client.geometry());
        let fresh = (&Region::requests(&requests, geometry)?, &Region::results(&results, geometry)?);
        let resumed = self.client.resume(journaled, fresh, |old| {
            self.requests_file.replace(&requests)?;
            self.doorbell.replace(&doorbell)?;
            old.requests.lay(&requests, geometry.requests_bytes(), geometry.request_ring_bytes())?;
            old.header.map_or(Ok(()), |header| header.lay(&requests, RING_OFFSET, 0))?;
            old.results.lay(&results, geometry.results_bytes(), geometry.result_ring_bytes())
        })?;
        self.ring_doorbell();
        Ok(resumed)
    }

    /// The cursors: (submitted, completed, released, events published, events read).
    #[getter]
    fn cursors(&self) -> PyResult<(u64, u64, u64, u64, u64)> {
        self.home.check(End::Forked)?;
        Ok(self.client.cursors())
    }

    /// Raises what ended the lane, if something did.
    fn check(&self) -> PyResult<()> {
        self.alive()?;
        if self.client.is_closed() { Err(End::Closed.into()) } else { Ok(()) }
    }

    /// Refuses all further work; `leaves` says that no sidecar serves it. Arrays over the slots stay readable.
    #[pyo3(signature = (leaves=false))]
    fn close(&self, leaves: bool) {
        if self.home.is_here() {
            if leaves { self.client.leave() } else { self.client.close() }
        }
    }
}

/// A reservation as a `with` block that no signal can get into: its slots are submitted when the block ends well, and free
/// again however else it ends, at the latest with this object.
#[pyclass(subclass, weakref, module = "ringlane._shim")]
pub struct Hold {
    lane: Py<Lane>,
    count: u64,
    timeout_ns: Option<u64>,
    waits: bool,
    /// Makes an array over a lease, for the block to fill; without it the block copies into the request ring.
    view: Option<Py<PyAny>>,
    slots: Option<Py<PyAny>>,
    /// 0 before the block.
    serial: Serial,
    #[pyo3(get)]
    first: u64,
    #[pyo3(get)]
    ring_number: u64,
    /// A pinning look at the results (true only once completed), after the block.
    #[pyo3(get, set)]
    lease: Option<Py<Lease>>,
}

#[pymethods]
impl Hold {
    #[new]
    #[pyo3(signature = (lane, count, timeout_ns=None, waits=true, view=None))]
    fn new(lane: Py<Lane>, count: i64, timeout_ns: Option<u64>, waits: bool, view: Option<Py<PyAny>>) -> PyResult<Self> {
        let count = lane.get().client.geometry().slots_of(count).map_err(PyValueError::new_err)?;
        Ok(Self { lane, count, timeout_ns, waits, view, slots: None, serial: 0, first: 0, ring_number: 0, lease: None })
    }

    fn __enter__(&mut self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if self.serial != 0 {
            return Err(RinglaneError::new_err("a reservation is used once; call lane.reserve() again"));
        }
        let (lane, mut patience) = (self.lane.get(), Patience::new(self.timeout_ns, self.waits));
        (self.serial, self.first, self.ring_number) = loop {
            lane.alive()?;
            match lane.client.reserve(self.count, self.view.is_some()) {
                Ok(reserved) => break reserved,
                Err(obstacle) => lane.wait_for_room(py, obstacle, &mut patience)?,
            }
        };
        let Some(view) = &self.view else { return Ok(None) };
        let look = lane.client.look_at_open(self.serial).expect("it was opened here, and only here is its serial known");
        let slots = view.call1(py, (Lease { look, lane: self.lane.clone_ref(py) },));
        self.slots = slots.as_ref().ok().map(|slots| slots.clone_ref(py));
        slots.map(Some).or_else(|error| lane.abandon(self.serial).and(Err(error)))
    }

    #[pyo3(signature = (kind, _error, _trace, /))]
    fn __exit__(&mut self, py: Python<'_>, kind: Option<Py<PyAny>>, _error: Py<PyAny>, _trace: Py<PyAny>) -> PyResult<()> {
        let (lane, slots) = (self.lane.get(), self.slots.take());
        let frozen = slots.map_or(Ok(()), |slots| slots.bind(py).getattr("flags")?.setattr("writeable", false));
        let checked = frozen.and_then(|()| lane.check());
        if kind.is_some() || checked.is_err() {
            return lane.abandon(self.serial).and(if kind.is_some() { Ok(()) } else { checked });
        }
        let (look, asleep) = lane.client.commit(self.serial).ok_or_else(|| RinglaneError::new_err("no reservation is open"))?;
        if asleep {
            lane.ring_doorbell();
        }
        self.lease = Some(Py::new(py, Lease { look, lane: self.lane.clone_ref(py) })?);
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.slots = None; // or it would count as somebody who looks
        let _ = self.lane.get().abandon(self.serial); // which fails without memory for a new mapping
    }
}

/// A look at slots, as memory that numpy can view: arrays over a ring hold one, and the slots are not reused while one
/// lives. (The buffer protocol is not part of the stable interface of Python 3.10; numpy's own array interface is.)
#[pyclass(frozen, weakref, module = "ringlane._shim")]
pub struct Lease {
    look: Look<Region>,
    lane: Py<Lane>,
}

#[pymethods]
impl Lease {
    #[getter]
    const fn first(&self) -> u64 {
        self.look.first
    }

    #[getter]
    const fn count(&self) -> u64 {
        self.look.count
    }

    #[getter]
    fn __array_interface__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let interface = PyDict::new(py);
        interface.set_item("version", 3)?;
        interface.set_item("typestr", format!("|V{}", self.look.slot_bytes))?;
        interface.set_item("shape", (self.look.count,))?;
        interface.set_item("data", (self.look.address(), !self.look.mapping.writable))?;
        Ok(interface)
    }

    /// Copies bytes objects to where nobody else writes now, one behind the other from `offset` bytes on.
    fn gather(&self, mut offset: usize, payloads: &Bound<'_, PyList>) -> PyResult<()> {
        let look = Some(&self.look).filter(|look| look.mapping.writable).ok_or_else(|| PyValueError::new_err("it is read-only"))?;
        payloads.iter().try_for_each(|payload| {
            offset = look.write(offset, payload.cast::<PyBytes>()?.as_bytes()).map_err(PyValueError::new_err)?;
            Ok(())
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let lane = self.lane.get();
        if let Some(serial) = self.look.serial.filter(|_| lane.home.is_here()) {
            lane.client.unpin(serial);
        }
    }
}
