//! `lane.call`: one record there and its answer back, as CPython's fastest kind of builtin. Everything here is on the path
//! whose nanoseconds count; what it needs besides stands in `lane.rs`.
#![allow(unsafe_code)]

use crate::lane::Lane;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use ringlane_layout::client::{Goal, border::Count};
use ringlane_layout::field::{Kind, NumberField, WideRecord, too_many};
use ringlane_layout::limits::RECORD_BYTES;
use ringlane_layout::patience::{Patience, deadline_after};
use std::time::Duration;

/// How long `call` spins with the GIL held: giving it up and taking it again costs more than most answers.
const SPIN_WITH_GIL: Duration = Duration::from_micros(2);

const DOC: &std::ffi::CStr = c"call(*fields)\n--\n\nSubmits one record and returns its answer; see `ringlane.Lane.call`.";

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
    let (border, mut record): (_, WideRecord) = (&lane.client.border, [0; RECORD_BYTES + 8]);
    let mut clock = border.begin_call();
    if args.len() > lane.request_fields.len() {
        return Err(PyTypeError::new_err(too_many(&lane.request_fields, args.len())));
    }
    for (field, &argument) in lane.request_fields.iter().zip(args) {
        field.put(&mut record, number(py, field, argument)?);
    }
    let mut patience = None;
    let (serial, slot) = loop {
        match lane.submit_one(&record)? {
            Ok(submitted) => break submitted,
            Err(obstacle) => lane.wait_for_room(py, obstacle, patience.get_or_insert_with(|| Patience::new(lane.timeout_ns, true)))?,
        }
    };
    border.lap(&mut clock, Count::CallFillNs);
    let goal = Goal::Completed(slot + 1);
    if !lane.client.linger(goal, SPIN_WITH_GIL, SPIN_WITH_GIL) {
        let deadline = patience.map_or_else(|| deadline_after(lane.timeout_ns), |patience| patience.deadline);
        if let Err(error) = lane.wait_for(py, goal, deadline, false) {
            lane.client.unpin(serial);
            return Err(error);
        }
    }
    border.lap(&mut clock, Count::CallWaitNs);
    lane.client.read_result(slot, &mut record);
    lane.client.unpin(serial);
    let answer = tuple(py, &lane.result_fields, &record);
    border.lap(&mut clock, Count::CallReadNs);
    answer
}

/// An argument as the bits of its field.
#[inline]
fn number(py: Python<'_>, field: &NumberField, argument: *mut ffi::PyObject) -> PyResult<u64> {
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
fn unusual_number(py: Python<'_>, field: &NumberField, argument: *mut ffi::PyObject, value: i64) -> PyResult<u64> {
    let error = if value == -1 { PyErr::take(py) } else { None };
    match error {
        None if field.holds(value) => Ok(value.cast_unsigned()),
        None => Err(PyValueError::new_err(field.range_words())),
        Some(error) if error.is_instance_of::<pyo3::exceptions::PyOverflowError>(py) => {
            // SAFETY: a borrowed, live object, borrowed by the caller's frame for the whole call.
            let argument = unsafe { Borrowed::from_ptr(py, argument) };
            let whole: Option<u64> = argument.extract().ok();
            whole.filter(|&value| field.holds_unsigned(value)).ok_or_else(|| PyValueError::new_err(field.range_words()))
        }
        Some(error) => Err(PyTypeError::new_err(format!("{}: {}", field.name, error.value(py)))),
    }
}

/// The record's fields as a new tuple of ints.
#[inline]
fn tuple(py: Python<'_>, fields: &[NumberField], record: &WideRecord) -> PyResult<*mut ffi::PyObject> {
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
