//! What a recorded lane was asked and answered, on its way to the journal: what is computed on is written first, and no answer
//! is visible before it is as durable as orders are. Bytes are cut into frames here; what they mean, replay knows.

use std::time::{Duration, Instant};

use bytemuck::Zeroable;
use crossbeam::channel::bounded;
use ringlane_layout::limits::{BATCH_SLOTS_MAX, JOB_KEEP_NS_MAX, RECORD_BYTES};
use ringlane_layout::record::RecordBytes;
use serde_json::json;

use crate::journal::{JobHead, JobPart};
use crate::kernels::door::LaneShape;
use crate::sequencer::{Command, Commands, JobPiece};

/// Between two tries to find room in the journal.
const PAUSE: Duration = Duration::from_millis(1);

/// Why something could not be recorded.
#[derive(Debug)]
pub enum Unkept {
    /// The sidecar ends.
    Stopping,
    /// The journal takes nothing now, for this reason.
    NoRoom(String),
}

/// A recorded lane's way to the journal.
pub struct Keeper {
    commands: Commands,
    lane: u32,
    hashes: (u64, u64),
}

/// Something that is being written: at most a frame of it is here.
pub struct Entry {
    first_slot: u64,
    has_head: bool,
    records: Vec<RecordBytes>,
    /// Bytes of the last record that are used; 0 for all.
    filled: usize,
    is_told_when_durable: bool,
}

impl Keeper {
    /// Journals that a lane was opened. Words say why it cannot be recorded.
    pub fn open(
        commands: Commands,
        (lane, shape): (u32, &LaneShape),
        kernel: &str,
        parameters: &serde_json::Value,
    ) -> Result<Self, Unkept> {
        let keeper = Self { commands, lane, hashes: (shape.request.hash(), shape.result.hash()) };
        let text = json!({"kernel": kernel, "parameters": parameters}).to_string();
        keeper.whole(JobPart::Opened, 0, 0, text.as_bytes(), false)?;
        Ok(keeper)
    }

    /// Journals what `slots` slots were asked, as private memory holds it.
    pub fn asked(&self, first_slot: u64, slots: usize, requests: &[u8]) -> Result<(), Unkept> {
        self.whole(JobPart::Asked, first_slot, slots, requests, false)
    }

    /// Journals their answers, and waits until these, and all before them, are durable.
    pub fn answered(&self, first_slot: u64, slots: usize, results: &[u8]) -> Result<(), Unkept> {
        self.whole(JobPart::Answered, first_slot, slots, results, true)
    }

    /// Begins what one slot with a payload of so many bytes was asked; its payload follows by [`Keeper::add`].
    pub fn begin(&self, slot: u64, request: &[u8], payload_bytes: u64) -> Result<Entry, Unkept> {
        let mut entry = self.entry(JobPart::Asked, slot, (1, request.len() as u64 + payload_bytes, payload_bytes), false);
        self.add(&mut entry, request)?;
        Ok(entry)
    }

    /// Adds bytes.
    pub fn add(&self, entry: &mut Entry, mut bytes: &[u8]) -> Result<(), Unkept> {
        while !bytes.is_empty() {
            if entry.filled == 0 {
                if entry.records.len() == BATCH_SLOTS_MAX {
                    self.send(entry, false)?;
                }
                entry.records.push(RecordBytes::zeroed());
            }
            let from = (entry.records.len() - 1) * RECORD_BYTES + entry.filled;
            let room = if entry.filled == 0 { RECORD_BYTES } else { RECORD_BYTES - entry.filled };
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            bytemuck::cast_slice_mut::<_, u8>(&mut entry.records)[from..from + now.len()].copy_from_slice(now);
            entry.filled = (entry.filled + now.len()) % RECORD_BYTES;
            bytes = later;
        }
        Ok(())
    }

    /// Ends it.
    pub fn end(&self, mut entry: Entry) -> Result<(), Unkept> {
        let waits = entry.is_told_when_durable;
        self.send(&mut entry, waits)
    }

    fn whole(&self, part: JobPart, first_slot: u64, slots: usize, bytes: &[u8], waits: bool) -> Result<(), Unkept> {
        let mut entry = self.entry(part, first_slot, (slots as u64, bytes.len() as u64, 0), waits);
        self.add(&mut entry, bytes)?;
        self.end(entry)
    }

    fn entry(&self, part: JobPart, first_slot: u64, (slots, bytes, payload_bytes): (u64, u64, u64), waits: bool) -> Entry {
        let (part, lane) = (part as u32, self.lane);
        let (request_schema_hash, result_schema_hash) = self.hashes;
        let head =
            JobHead { part, lane, first_slot, slots, bytes, request_schema_hash, result_schema_hash, payload_bytes, reserved: [0; 8] };
        let mut records = Vec::with_capacity(BATCH_SLOTS_MAX);
        records.push(bytemuck::must_cast(head));
        Entry { first_slot, has_head: true, records, filled: 0, is_told_when_durable: waits }
    }

    /// Hands a frame over and waits for its number; one at a time, so that orders find the sequencer free.
    fn send(&self, entry: &mut Entry, is_told_when_durable: bool) -> Result<(), Unkept> {
        let begin = Instant::now();
        loop {
            let (answer, answered) = bounded(1);
            let (lane, first_slot, has_head, records) = (self.lane, entry.first_slot, entry.has_head, entry.records.clone());
            if !self.commands.send(Command::Keep(JobPiece { lane, first_slot, records, has_head, is_told_when_durable }, answer)) {
                return Err(Unkept::Stopping);
            }
            match answered.recv().map_err(|_| Unkept::Stopping)? {
                Ok(_) => break,
                Err(words) if begin.elapsed() > Duration::from_nanos(JOB_KEEP_NS_MAX) => return Err(Unkept::NoRoom(words)),
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
        entry.records.clear();
        entry.has_head = false;
        entry.filled = 0;
        Ok(())
    }
}
