//! `lane.call`: one record there and its answer back, as CPython's fastest kind of builtin. Everything here is on the path
//! whose nanoseconds count; what it needs besides stands in `lane.rs`.
#![allow(unsafe_code)]

use crate::error::Trouble;
use crate::field::{Field, Kind, WideRecord};
use crate::lane::{Exchange, Goal, Lane, Patience};
use crate::slots::{Obstacle, Serial};
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use ringlane_layout::limits::RECORD_BYTES;
use std::hint::spin_loop;
use std::time::{Duration, Instant};

/// How long `call` spins with the GIL held: giving it up and taking it again costs more than most answers.
const SPIN_WITH_GIL: Duration = Duration::from_micros(2);
/// Looks at the cursor between two looks at the clock.
const LOOKS: u32 = 32;

const DOC: &std::ffi::CStr = c"call(*fields)\n--\n\nSubmits one record and returns its answer.\n\n\
Arguments are the request's fields in the order of the schema; fields left out at the end are 0. Returns the result's\n\
fields in the order of the schema, without reserved ones, as a tuple. Raises ValueError for a number that its field cannot\n\
hold, TimeoutError after the lane's timeout, SidecarLost, LaneFaulted or LaneFull.";

struct Definition(ffi::PyMethodDef);
// SAFETY: never written; CPython only reads it.
unsafe impl Sync for Definition {}

static DEFINITION: Definition = Definition(ffi::PyMethodDef {
    ml_name: c"call".as_ptr(),
    ml_meth: ffi::PyMethodDefPointer { PyCFunctionFast: entry },
    ml_flags: ffi::METH_FASTCALL,
    ml_doc: DOC.as_ptr(),
});

/// The builtin, bound to its lane.
pub fn bind(lane: Bound<'_, Lane>) -> PyResult<Bound<'_, PyAny>> {
    let py = lane.py();
    let definition = (&raw const DEFINITION.0).cast_mut();
    // SAFETY: the definition is static and fits its flags; the new object takes a reference to the lane; null means an exception.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyCFunction_NewEx(definition, lane.as_ptr(), std::ptr::null_mut())) }
}

/// METH_FASTCALL. `slf` is the lane that `bind` bound.
unsafe extern "C" fn entry(slf: *mut ffi::PyObject, args: *mut *mut ffi::PyObject, count: ffi::Py_ssize_t) -> *mut ffi::PyObject {
    // SAFETY: CPython calls a builtin with the thread attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: `bind` is the only maker of this builtin and its self is a Lane, which the builtin keeps alive.
    let lane = unsafe { Borrowed::from_ptr(py, slf).cast_unchecked::<Lane>() };
    // SAFETY: CPython passes `count` borrowed, non-null arguments; with 0 the pointer may be anything.
    let args = if count == 0 { &[] } else { unsafe { std::slice::from_raw_parts(args.cast_const(), count as usize) } };
    match run(py, lane.get(), args) {
        Ok(tuple) => tuple,
        Err(error) => {
            error.restore(py);
            std::ptr::null_mut()
        }
    }
}

#[inline]
fn run(py: Python<'_>, lane: &Lane, args: &[*mut ffi::PyObject]) -> PyResult<*mut ffi::PyObject> {
    let mut record: WideRecord = [0; RECORD_BYTES + 8];
    if args.len() > lane.request_fields.len() {
        return Err(too_many(lane, args.len()));
    }
    for (field, &argument) in lane.request_fields.iter().zip(args) {
        field.put(&mut record, number(py, field, argument)?);
    }
    let exchange = &*lane.exchange;
    let (serial, slot, deadline) = match exchange.submit_one(&record)? {
        Ok((serial, slot)) => (serial, slot, None),
        Err(obstacle) => wait_and_submit(py, lane, &record, obstacle)?,
    };
    if !answered_soon(exchange, slot) {
        let deadline = deadline.or_else(|| lane.timeout.map(|timeout| Instant::now() + timeout));
        if let Err(trouble) = exchange.wait(py, Goal::Completed(slot + 1), deadline) {
            exchange.unpin(serial);
            return Err(trouble.into());
        }
    }
    exchange.read_result(slot, &mut record);
    exchange.unpin(serial);
    tuple(py, &lane.result_fields, &record)
}

/// Spins with the GIL for a moment. True: the slot is completed.
#[inline]
fn answered_soon(exchange: &Exchange, slot: u64) -> bool {
    let mut begin = None;
    loop {
        for _ in 0..LOOKS {
            if exchange.completed() > slot {
                return true;
            }
            spin_loop();
        }
        if begin.get_or_insert_with(Instant::now).elapsed() > SPIN_WITH_GIL {
            return false;
        }
    }
}

#[cold]
fn wait_and_submit(
    py: Python<'_>,
    lane: &Lane,
    record: &WideRecord,
    mut obstacle: Obstacle,
) -> Result<(Serial, u64, Option<Instant>), Trouble> {
    let patience = Patience::new(lane.timeout);
    loop {
        lane.exchange.wait_for_room(py, obstacle, &patience)?;
        match lane.exchange.submit_one(record)? {
            Ok((serial, slot)) => return Ok((serial, slot, patience.deadline)),
            Err(next) => obstacle = next,
        }
    }
}

#[cold]
fn too_many(lane: &Lane, count: usize) -> PyErr {
    let names: Vec<&str> = lane.request_fields.iter().map(|field| field.name.as_str()).collect();
    PyTypeError::new_err(format!("call() takes at most {} arguments ({}), not {count}", names.len(), names.join(", ")))
}

/// An argument as the bits of its field.
#[inline]
fn number(py: Python<'_>, field: &Field, argument: *mut ffi::PyObject) -> PyResult<u64> {
    if field.kind == Kind::Float {
        // SAFETY: a borrowed, live object; the thread is attached.
        let value = unsafe { ffi::PyFloat_AsDouble(argument) };
        return if value == -1.0 { PyErr::take(py).map_or(Ok(field.float_bits(value)), Err) } else { Ok(field.float_bits(value)) };
    }
    // SAFETY: as above. Objects with `__index__`, such as numpy's integers and enums, are taken too.
    let value = unsafe { ffi::PyLong_AsLongLong(argument) };
    if value == -1 || !field.holds(value) {
        return unusual_number(py, field, argument, value);
    }
    Ok(value.cast_unsigned())
}

/// -1, which may be an exception; numbers that only a u64 holds; and numbers out of range.
#[cold]
fn unusual_number(py: Python<'_>, field: &Field, argument: *mut ffi::PyObject, value: i64) -> PyResult<u64> {
    let error = if value == -1 { PyErr::take(py) } else { None };
    match error {
        None if field.holds(value) => Ok(value.cast_unsigned()),
        None => Err(field.range_error()),
        Some(error) if error.is_instance_of::<pyo3::exceptions::PyOverflowError>(py) => {
            // SAFETY: a borrowed, live object, borrowed by the caller's frame for the whole call.
            let argument = unsafe { Borrowed::from_ptr(py, argument) };
            let whole: Option<u64> = argument.extract().ok();
            whole.filter(|&value| field.holds_unsigned(value)).ok_or_else(|| field.range_error())
        }
        Some(error) => Err(PyTypeError::new_err(format!("{}: {}", field.name, error.value(py)))),
    }
}

/// The record's fields as a new tuple of ints.
#[inline]
fn tuple(py: Python<'_>, fields: &[Field], record: &WideRecord) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: the thread is attached; every item of the new tuple is set once, with a reference that it takes over, before
    // anybody else sees it. On failure the tuple is given back, its unset items being null.
    unsafe {
        let tuple = ffi::PyTuple_New(fields.len() as ffi::Py_ssize_t);
        if tuple.is_null() {
            return Err(PyErr::fetch(py));
        }
        for (index, field) in fields.iter().enumerate() {
            let raw = field.get(record);
            let item = match field.kind {
                Kind::Unsigned => ffi::PyLong_FromUnsignedLongLong(raw),
                Kind::Signed => ffi::PyLong_FromLongLong(raw.cast_signed()),
                Kind::Float => ffi::PyFloat_FromDouble(field.float(raw)),
            };
            if item.is_null() {
                ffi::Py_DECREF(tuple);
                return Err(PyErr::fetch(py));
            }
            ffi::PyTuple_SetItem(tuple, index as ffi::Py_ssize_t, item);
        }
        Ok(tuple)
    }
}
