//! Records that crash a kernel: how a crash is caught while a journal is applied, and what a record is that was made void.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ringlane_layout::orders::{OrderRequest, OrderResult, OrderState, RejectCode};
use ringlane_layout::record::RecordBytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Engine;
use crate::journal::{Frame, FrameKind, VoidRange};

/// Why a frame could not be applied.
#[derive(Debug)]
pub enum Broken {
    /// It contradicts what was applied before.
    Words(String),
    /// One of its records crashed the kernel, which said this. The engine is of no use any more.
    Crash(String),
}

impl Broken {
    /// In words; a crash names the records.
    pub fn words(self, frame: &Frame) -> String {
        match self {
            Self::Words(words) => words,
            Self::Crash(said) => {
                let (first, count) = (frame.header.first_sequence, frame.records.len() as u64);
                format!(
                    "one of the records {first} to {} crashes the kernel ({said}); a start (`ringlane serve`) says which, and how it can \
                     be made void",
                    first + count.max(1) - 1
                )
            }
        }
    }
}

impl Engine {
    /// As [`Engine::apply`], and outlives a kernel that panics.
    pub fn try_apply(&mut self, frame: &Frame) -> Result<(), Broken> {
        // An engine after a crash is given up: nobody looks at what it was doing.
        match catch_unwind(AssertUnwindSafe(|| self.apply(frame))) {
            Ok(applied) => applied.map_err(Broken::Words),
            Err(panic) => Err(Broken::Crash(said(&*panic))),
        }
    }

    /// Applies the records of a frame one by one, up to one that crashes the kernel: its place, and what the kernel said.
    pub fn first_crash(&mut self, frame: &Frame) -> Option<(usize, String)> {
        let is_void = |sequence| frame.voids.iter().any(|void| void.holds(sequence));
        for (at, record) in frame.records.iter().enumerate() {
            let mut header = frame.header;
            (header.first_sequence, header.output_hash) = (self.next_sequence, self.output_hash);
            let records = std::slice::from_ref(record);
            let voids = [VoidRange { first: self.next_sequence, last: self.next_sequence }];
            let voids = if is_void(self.next_sequence) { &voids[..] } else { &[] };
            match self.try_apply(&Frame { header, records, voids, ..*frame }) {
                Ok(()) => {}
                Err(Broken::Words(said) | Broken::Crash(said)) => return Some((at, said)),
            }
        }
        None
    }

    /// Applies a frame of which records are void: they keep their numbers and have no effect. Of frames other than order
    /// requests, all records are void when one is.
    pub(super) fn apply_void(&mut self, frame: &Frame) {
        if frame.kind != FrameKind::Orders {
            self.pass(frame.records.len());
            return;
        }
        let (first, lane) = (self.next_sequence, frame.header.lane);
        let requests: &[OrderRequest] = bytemuck::cast_slice::<RecordBytes, _>(frame.records);
        let is_void = |at: usize| frame.voids.iter().any(|void| void.holds(first + at as u64));
        let mut at = 0;
        while at < requests.len() {
            let end = (at..requests.len()).find(|next| is_void(*next) != is_void(at)).unwrap_or(requests.len());
            let (requests, results) = (&requests[at..end], &mut self.results[at..end]);
            if is_void(at) {
                for (number, (request, result)) in requests.iter().zip(results).enumerate() {
                    *result = voided(first + (at + number) as u64, request);
                }
            } else {
                if crate::crash::poisoned(requests).is_some() {
                    panic!("a test poisoned this record");
                }
                self.orders.process(first + at as u64, lane, requests, results, &mut self.events);
            }
            at = end;
        }
        self.next_sequence += requests.len() as u64;
        self.output_hash = xxh3_64_with_seed(bytemuck::cast_slice(&self.results[..requests.len()]), self.output_hash);
        self.hash_events();
    }
}

/// The answer to a request that is void.
fn voided(sequence: u64, request: &OrderRequest) -> OrderResult {
    OrderResult {
        sequence,
        client_order_id: request.client_order_id,
        code: RejectCode::Voided as u16,
        state: OrderState::Rejected as u8,
        ..OrderResult::default()
    }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".into())
}
