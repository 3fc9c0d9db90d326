//! Which record of a journal crashes the kernel: found by applying the journal once more up to it, and then record by record.

use std::path::Path;

use crate::engine::Engine;
use crate::image;
use crate::journal::{Reader, VoidRange, schema};
use crate::replay::columns::record_text;

/// A record that crashes the kernel.
pub struct Culprit {
    /// Its sequence number.
    pub sequence: u64,
    /// Lane and fields, for a person.
    pub record: String,
    /// What the kernel said.
    pub said: String,
    /// The records of its frame.
    pub frame: VoidRange,
    /// Whether records follow that frame: then a kernel has computed it once, and its answers were given.
    is_followed: bool,
}

impl Culprit {
    /// Finds it in the frame that begins at `first`.
    pub fn find(directory: &Path, hash_seed: u64, first: u64) -> Result<Self, String> {
        let (mut engine, mut reader) = begin(directory, hash_seed)?;
        // The kernel has said on standard error what is wrong with it.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let found = Self::find_in(&mut engine, &mut reader, first);
        std::panic::set_hook(hook);
        found.map_err(|words| format!("{}: {words}", directory.display()))
    }

    fn find_in(engine: &mut Engine, reader: &mut Reader, first: u64) -> Result<Self, String> {
        loop {
            let Some(frame) = reader.next_frame()? else {
                return Err(format!("the kernel crashed at the frame of sequence {first}, and did not when that was looked at again"));
            };
            let header = frame.header;
            if header.first_sequence != first {
                engine.try_apply(&frame).map_err(|broken| broken.words(&frame))?;
                continue;
            }
            let last = first + frame.records.len() as u64 - 1;
            let Some((at, said)) = engine.first_crash(&frame) else {
                return Err(format!("the records {first} to {last} crash the kernel as a batch, and none of them does by itself"));
            };
            let fields = schema(frame.kind).map(|schema| record_text(schema, bytemuck::bytes_of(&frame.records[at]))).unwrap_or_default();
            let record = format!("lane {}, {:?} {fields}", header.lane, frame.kind);
            let is_followed = reader.next_frame()?.is_some();
            return Ok(Self { sequence: first + at as u64, record, said, frame: VoidRange { first, last }, is_followed });
        }
    }

    /// Whether these records may be made void: they begin with this one, end in its frame, and nobody knows their answers.
    pub fn may_be_skipped(&self, skip: VoidRange) -> bool {
        !self.is_followed && skip.first == self.sequence && skip.last <= self.frame.last
    }

    /// What is wrong, and what to do; `skip` is what was to be skipped and cannot be.
    pub fn words(&self, skip: Option<VoidRange>) -> String {
        let Self { sequence, record, said, frame, is_followed } = self;
        let what = format!("record {sequence} crashes the kernel ({said}): {record}. ");
        if *is_followed {
            return what + "Records follow it, so the ringlane that wrote them could compute it, and its answer is known: use that one";
        }
        let why_not = match skip {
            Some(skip) if skip.first != *sequence => format!("--skip {skip} does not begin with it. "),
            Some(skip) => format!("--skip {skip} ends behind its batch, which ends at {}. ", frame.last),
            None => String::new(),
        };
        format!(
            "{what}{why_not}It was never answered. Start once with `ringlane serve --skip {sequence}` and what it was started with \
             otherwise: the record is made void, which is journaled, and its sender is answered VOIDED"
        )
    }
}

/// An engine as a recovery begins with it, and what follows.
fn begin(directory: &Path, hash_seed: u64) -> Result<(Engine, Reader), String> {
    match image::load_newest(directory, hash_seed) {
        Some((engine, _, header)) => {
            Ok((engine, Reader::open_behind(directory, header.segment_index, header.segment_offset, header.sequence + 1)?))
        }
        None => Ok((Engine::new(hash_seed), Reader::open(directory)?)),
    }
}
