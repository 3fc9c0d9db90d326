//! Recorded lanes of kernels other than orders: their pieces are put together again, counted, and, to verify them, computed
//! anew. A search cannot be: its corpus is not in the recording.

use std::collections::HashMap;

use bytemuck::Zeroable;
use ringlane_layout::limits::{ARENA_BYTES_MAX, JOB_GROUP_BYTES_MAX, RECORD_BYTES};
use ringlane_layout::record::RecordBytes;
use serde_json::{Value, json};

use super::walk::Step;
use crate::journal::{FrameKind, JobHead, JobPart};
use crate::kernels::door::{Compute, Kernels, OpenKernel};

/// Most bytes behind one head.
const ENTRY_BYTES_MAX: u64 = ARENA_BYTES_MAX + JOB_GROUP_BYTES_MAX as u64;

/// What was found of recorded lanes.
pub struct RecordedJobs {
    kernels: Option<Kernels>,
    lanes: HashMap<u32, JobLaneSeen>,
    counts: Counts,
    /// The first answer that is another one now.
    difference: Option<String>,
}

#[derive(Default)]
struct Counts {
    lanes: u64,
    asked: u64,
    answered: u64,
    recomputed: u64,
    different: u64,
}

#[derive(Default)]
struct JobLaneSeen {
    kernel: String,
    compute: Option<OpenKernel>,
    /// What is not whole yet, by first slot.
    entries: HashMap<u64, Entry>,
    /// What was asked and is not answered yet, by first slot.
    asked: HashMap<u64, Entry>,
}

/// A head, and as much as came of what it announces.
struct Entry {
    head: JobHead,
    records: Vec<RecordBytes>,
}

impl Entry {
    fn bytes(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.records)[..self.head.bytes as usize]
    }

    fn is_whole(&self) -> bool {
        self.records.len() as u64 == self.head.bytes.div_ceil(RECORD_BYTES as u64)
    }
}

impl RecordedJobs {
    /// Counts what there is; with kernels, also computes it anew.
    #[must_use]
    pub fn new(kernels: Option<Kernels>) -> Self {
        Self { kernels, lanes: HashMap::new(), counts: Counts::default(), difference: None }
    }

    /// Takes a frame of a recording. Words say what in it is no piece of a lane.
    pub fn add(&mut self, step: &Step) -> Result<(), String> {
        if step.kind != FrameKind::Job {
            return Ok(());
        }
        let (lane, slot) = (step.header.lane, step.header.first_slot);
        let mut records = step.records;
        let begun = if step.header.waiting_slots == 1 {
            let wrong = || format!("sequence {}: a JOB frame of lane {lane} does not begin as it should", step.header.first_sequence);
            let (head, rest) = records.split_first().ok_or_else(wrong)?;
            records = rest;
            let head: JobHead = bytemuck::must_cast(*head);
            let part = JobPart::try_from(head.part).map_err(|_| wrong())?;
            if (head.lane, head.first_slot) != (lane, slot) || head.bytes > ENTRY_BYTES_MAX || head.payload_bytes > head.bytes {
                return Err(wrong());
            }
            // A walk that begins behind a lane's opening knows nothing of it.
            (part == JobPart::Opened || self.lanes.contains_key(&lane)).then_some(Entry { head, records: Vec::new() })
        } else {
            self.lanes.get_mut(&lane).and_then(|seen| seen.entries.remove(&slot))
        };
        let Some(mut entry) = begun else { return Ok(()) };
        let seen = self.lanes.entry(lane).or_default();
        let wanted = entry.head.bytes.div_ceil(RECORD_BYTES as u64) as usize - entry.records.len();
        entry.records.extend(records.iter().take(wanted));
        if !entry.is_whole() {
            seen.entries.insert(slot, entry);
            return Ok(());
        }
        match JobPart::try_from(entry.head.part) {
            Ok(JobPart::Opened) => self.open(lane, &entry),
            Ok(JobPart::Asked) => {
                self.counts.asked += entry.head.slots;
                seen.asked.insert(slot, entry);
            }
            _ => {
                self.counts.answered += entry.head.slots;
                let asked = seen.asked.remove(&slot);
                let anew = asked.as_ref().zip(seen.compute.as_ref()).and_then(|(asked, open)| compute(open, asked, entry.bytes().len()));
                if let (Some(asked), Some(anew)) = (asked, anew) {
                    self.counts.recomputed += asked.head.slots;
                    let kernel = seen.kernel.clone();
                    self.compare(&kernel, &entry, bytemuck::cast_slice(&anew));
                }
            }
        }
        Ok(())
    }

    /// A lane begins: what another sidecar left of one with its number is over.
    fn open(&mut self, lane: u32, entry: &Entry) {
        self.counts.lanes += 1;
        let opened: Value = serde_json::from_slice(entry.bytes()).unwrap_or_default();
        let kernel = opened["kernel"].as_str().unwrap_or("").to_owned();
        let open = self.kernels.as_ref().and_then(|kernels| kernels.open(&kernel, &opened["parameters"])).and_then(Result::ok);
        let hashes = (entry.head.request_schema_hash, entry.head.result_schema_hash);
        let compute = open.filter(|open| (open.shape.request.hash(), open.shape.result.hash()) == hashes);
        self.lanes.insert(lane, JobLaneSeen { kernel, compute, ..JobLaneSeen::default() });
    }

    fn compare(&mut self, kernel: &str, answered: &Entry, anew: &[u8]) {
        let recorded = answered.bytes();
        let slot_bytes = (recorded.len() / answered.head.slots.max(1) as usize).max(1);
        for (at, (was, is)) in recorded.chunks(slot_bytes).zip(anew.chunks(slot_bytes)).enumerate() {
            if was == is {
                continue;
            }
            self.counts.different += 1;
            let byte = was.iter().zip(is).position(|(was, is)| was != is).unwrap_or(0);
            let (lane, slot) = (answered.head.lane, answered.head.first_slot + at as u64);
            self.difference.get_or_insert_with(|| {
                format!(
                    "lane {lane} of kernel {kernel:?}, slot {slot}: byte {byte} of the answer is {:#04x} in the recording and {:#04x} anew",
                    was[byte], is[byte]
                )
            });
        }
    }

    /// What there was; none without any recorded lane. "not recomputed" is what was answered and could not be computed anew.
    #[must_use]
    pub fn summary(&self) -> Option<Value> {
        let Counts { lanes, asked, answered, recomputed, different } = self.counts;
        let mut summary = json!({"lanes": lanes, "asked": asked, "answered": answered});
        if self.kernels.is_some() {
            summary["recomputed"] = json!(recomputed);
            summary["not_recomputed"] = json!(answered - recomputed);
            summary["different"] = json!(different);
            summary["difference"] = json!(self.difference);
        }
        (lanes > 0).then_some(summary)
    }

    /// Whether an answer is another one now.
    #[must_use]
    pub fn is_different(&self) -> bool {
        self.counts.different > 0
    }
}

/// The answers, computed anew; none where the recording does not hold all that they depend on.
fn compute(open: &OpenKernel, asked: &Entry, result_bytes: usize) -> Option<Vec<RecordBytes>> {
    let (request, result) = (open.shape.request.size_bytes, open.shape.result.size_bytes);
    let slots = usize::try_from(asked.head.slots).ok()?;
    let payload_at = usize::try_from(asked.head.bytes - asked.head.payload_bytes).ok()?;
    if payload_at != slots.checked_mul(request)? || result_bytes != slots.checked_mul(result)? {
        return None;
    }
    let mut results = vec![RecordBytes::zeroed(); result_bytes / RECORD_BYTES];
    let (requests, payload) = asked.bytes().split_at(payload_at);
    let into = bytemuck::cast_slice_mut(&mut results);
    match &open.compute {
        Compute::Batch(compute) => compute.process(requests, into),
        Compute::Payloads(compute) if slots == 1 => compute.whole(requests, payload, into),
        Compute::Payloads(_) | Compute::Groups(_) => return None,
    }
    Some(results)
}

#[cfg(test)]
mod tests {
    use ringlane_layout::limits::BATCH_SLOTS_MAX;

    use super::*;
    use crate::engine::Engine;
    use crate::journal::FrameHeader;
    use crate::kernels::digests::Algorithm;

    /// One part of lane 7, in frames of `together` records; then what was found.
    fn add(jobs: &mut RecordedJobs, (part, slot): (JobPart, u64), bytes: &[u8], payload_bytes: u64, together: usize) -> Result<(), String> {
        let (hashes, engine) = (shape(), Engine::new(0));
        let head = JobHead {
            part: part as u32,
            lane: 7,
            first_slot: slot,
            slots: 1,
            bytes: bytes.len() as u64,
            request_schema_hash: hashes.0,
            result_schema_hash: hashes.1,
            payload_bytes,
            reserved: [0; 8],
        };
        let mut records: Vec<RecordBytes> = vec![bytemuck::must_cast(head)];
        for chunk in bytes.chunks(RECORD_BYTES) {
            let mut record = RecordBytes::zeroed();
            record.0[..chunk.len()].copy_from_slice(chunk);
            records.push(record);
        }
        for (at, records) in records.chunks(together).enumerate() {
            let header = FrameHeader { lane: 7, first_slot: slot, waiting_slots: u16::from(at == 0), ..FrameHeader::zeroed() };
            jobs.add(&Step { header, kind: FrameKind::Job, records, results: &[], events: &[], engine: &engine })?;
        }
        Ok(())
    }

    fn opened() -> String {
        json!({"kernel": "digests", "parameters": {"algorithm": "sha256", "arena_bytes": 4096}}).to_string()
    }

    fn shape() -> (u64, u64) {
        let open = Kernels::built_in().open("digests", &json!({"algorithm": "sha256", "arena_bytes": 4096})).unwrap().unwrap();
        (open.shape.request.hash(), open.shape.result.hash())
    }

    fn answer(payload: &[u8]) -> Vec<u8> {
        let mut answer = vec![0; 64];
        answer[..32].copy_from_slice(&Algorithm::Sha256.digest(payload));
        answer[32..40].copy_from_slice(&(payload.len() as u64).to_le_bytes());
        answer
    }

    #[test]
    fn answers_are_computed_anew_and_a_wrong_one_is_told() {
        for together in [1, 3, BATCH_SLOTS_MAX] {
            let mut jobs = RecordedJobs::new(Some(Kernels::built_in()));
            add(&mut jobs, (JobPart::Opened, 0), opened().as_bytes(), 0, together).unwrap();
            for (slot, payload) in [&b"abc"[..], b"", &[7; 1000]].into_iter().enumerate() {
                let asked = [&[0; 64][..], payload].concat();
                add(&mut jobs, (JobPart::Asked, slot as u64), &asked, payload.len() as u64, together).unwrap();
                add(&mut jobs, (JobPart::Answered, slot as u64), &answer(payload), 0, together).unwrap();
            }
            assert!(!jobs.is_different());
            let summary = jobs.summary().unwrap();
            assert_eq!((&summary["asked"], &summary["recomputed"], &summary["not_recomputed"]), (&json!(3), &json!(3), &json!(0)));
            add(&mut jobs, (JobPart::Asked, 3), &[0; 64], 0, together).unwrap();
            add(&mut jobs, (JobPart::Answered, 3), &answer(b"x"), 0, together).unwrap();
            assert!(jobs.is_different());
            assert!(jobs.summary().unwrap()["difference"].as_str().unwrap().contains("slot 3"));
        }
    }

    #[test]
    fn pieces_without_a_beginning_are_left_out_and_nonsense_is_refused() {
        let mut jobs = RecordedJobs::new(None);
        add(&mut jobs, (JobPart::Asked, 5), &[0; 64], 0, 1).unwrap();
        assert_eq!(jobs.summary(), None);
        add(&mut jobs, (JobPart::Opened, 0), opened().as_bytes(), 0, 1).unwrap();
        assert!(add(&mut jobs, (JobPart::Asked, 6), &[0; 64], 65, 1).unwrap_err().contains("does not begin"));
    }
}
