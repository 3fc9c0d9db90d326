//! What must be true: the journal's order, applied by the naive twin, and each client's own list of what it sent and was told.

use std::collections::BTreeMap;
use std::path::Path;

use ringlane_layout::limits::RESTING_ORDERS_MAX;
use ringlane_layout::orders::{BookLimits, EventKind, OrderEvent, OrderRequest, OrderResult};
use ringlane_layout::region::LaneStatus;
use ringlane_sidecar::journal::{Frame, FrameKind, LaneClose, LaneOpen, Reader};
use ringlane_tests::order_twin::Twin;
use xxhash_rust::xxh3::xxh3_64;

use super::client::Story;

/// A lane as the journal tells it.
#[derive(Clone, Default)]
struct LaneTale {
    requests: Vec<OrderRequest>,
    results: Vec<OrderResult>,
    events: Vec<OrderEvent>,
    closes: u32,
    /// Whether its end cancelled its orders.
    cancelled: bool,
    /// Why it ended; a `LaneStatus`.
    status: u64,
}

/// The twin, and what it has read so far.
#[derive(Clone)]
pub struct Oracle {
    twin: Twin,
    /// Sequence number of the next record.
    next: u64,
    /// Hash of each frame that was read, by its first sequence number: what was there once is never another.
    frames: BTreeMap<u64, (u64, u64)>,
    lanes: BTreeMap<u32, LaneTale>,
}

impl Oracle {
    /// It has read nothing.
    pub fn new() -> Self {
        Self { twin: Twin::new(RESTING_ORDERS_MAX), next: 1, frames: BTreeMap::new(), lanes: BTreeMap::new() }
    }

    /// Reads what the journal has by now, up to this sequence number. Nothing that it had may be missing or changed.
    pub fn read(&mut self, directory: &Path, upto: u64) -> Result<(), String> {
        let mut reader = Reader::open(directory)?;
        let mut last = 0;
        while let Some(frame) = reader.next_frame()? {
            let (first, count) = (frame.header.first_sequence, frame.records.len() as u64);
            if first + count - 1 > upto {
                break;
            }
            last = first + count - 1;
            let hash = xxh3_64(bytemuck::cast_slice(frame.records)) ^ u64::from(frame.header.kind);
            if let Some(before) = self.frames.insert(first, (count, hash))
                && before != (count, hash)
            {
                return Err(format!("the frame at sequence {first} changed"));
            }
            if first < self.next {
                continue;
            }
            if first != self.next {
                return Err(format!("sequence {} was due, and a frame begins at {first}", self.next));
            }
            self.apply(&frame)?;
            self.next = first + count;
        }
        // Old segments may have gone, never new ones.
        if last + 1 < self.next {
            return Err(format!("records {} to {} were in the journal, and are not any more", last + 1, self.next - 1));
        }
        Ok(())
    }

    /// Sequence number of the last record.
    pub fn sequence(&self) -> u64 {
        self.next - 1
    }

    /// The twin's state.
    pub fn state_hash(&self) -> u64 {
        self.twin.state_hash()
    }

    fn apply(&mut self, frame: &Frame) -> Result<(), String> {
        let (first, lane) = (frame.header.first_sequence, frame.header.lane);
        let mut events = Vec::new();
        for (sequence, record) in (first..).zip(frame.records) {
            match frame.kind {
                FrameKind::BookLimits if sequence == 1 => {
                    let limits: &BookLimits = bytemuck::cast_ref(record);
                    self.twin = Twin::new(limits.resting_orders_max as usize);
                }
                FrameKind::Instruments => self.twin.add_instrument(bytemuck::cast_ref(record)),
                FrameKind::Accounts => self.twin.set_accounts(bytemuck::cast_ref(record)),
                FrameKind::Time => self.twin.advance(sequence, bytemuck::cast_ref(record), &mut events),
                FrameKind::Admin => drop(self.twin.administer(sequence, bytemuck::cast_ref(record), &mut events)),
                FrameKind::LaneOpen => {
                    let open: &LaneOpen = bytemuck::cast_ref(record);
                    self.twin.open_lane(open.lane, open.account_first, open.account_last);
                    if self.lanes.insert(open.lane, LaneTale::default()).is_some() {
                        return Err(format!("lane {} was opened twice", open.lane));
                    }
                }
                FrameKind::LaneClose => {
                    let close: &LaneClose = bytemuck::cast_ref(record);
                    self.twin.close_lane(close.lane, close.cancel_orders != 0);
                    let tale = self.lanes.get_mut(&close.lane).ok_or("a lane was closed that was never opened")?;
                    tale.closes += 1;
                    (tale.cancelled, tale.status) = (close.cancel_orders != 0, close.status);
                    if tale.closes > 1 {
                        return Err(format!("lane {} was closed twice", close.lane));
                    }
                }
                FrameKind::Orders => {
                    let slot = frame.header.first_slot + (sequence - first);
                    let tale = self.lanes.get_mut(&lane).filter(|tale| tale.closes == 0);
                    let tale = tale.ok_or_else(|| format!("sequence {sequence}: lane {lane} is not open"))?;
                    if slot != tale.requests.len() as u64 {
                        return Err(format!("lane {lane}: slot {} was due, and slot {slot} is in the journal", tale.requests.len()));
                    }
                    let request: &OrderRequest = bytemuck::cast_ref(record);
                    tale.requests.push(*request);
                    let result = self.twin.process(sequence, lane, request, &mut events);
                    tale.results.push(result);
                }
                kind => return Err(format!("sequence {sequence}: nobody wrote a record of kind {kind:?}")),
            }
        }
        for (lane, event) in events {
            if let Some(tale) = self.lanes.get_mut(&lane).filter(|tale| tale.closes == 0) {
                let number = tale.events.len() as u64 + 1;
                tale.events.push(OrderEvent { number, ..event });
            }
        }
        Ok(())
    }

    /// Whether a client's list is the journal's.
    pub fn check(&self, story: &Story) -> Result<(), String> {
        if story.lane == 0 {
            return Ok(());
        }
        let lane = story.lane;
        let Some(tale) = self.lanes.get(&lane) else {
            return Err(format!("lane {lane} was granted, and the journal does not know it"));
        };
        let may_end = [LaneStatus::NotBack as u64, LaneStatus::JournalFailed as u64];
        if tale.closes > 0 && !story.is_gone && !may_end.contains(&tale.status) {
            return Err(format!("lane {lane} has its client, and was closed: {}", LaneStatus::words(tale.status)));
        }
        if tale.closes > 0 && tale.cancelled != story.cancels {
            return Err(format!(
                "lane {lane}: it ended, and its orders were cancelled: {}, as it wanted: {}",
                tale.cancelled, story.cancels
            ));
        }
        for (slot, request) in tale.requests.iter().enumerate() {
            if story.submitted.get(slot) != Some(request) {
                return Err(format!(
                    "lane {lane}: slot {slot} is in the journal as {request:?}, and was sent as {:?}",
                    story.submitted.get(slot)
                ));
            }
        }
        for (slot, told) in story.results.iter().enumerate() {
            let Some(told) = told else { continue };
            match tale.results.get(slot) {
                Some(result) if result == told => {}
                Some(result) => return Err(format!("lane {lane}: slot {slot} was told {told:?}, and it is {result:?}")),
                None => return Err(format!("lane {lane}: slot {slot} was told {told:?}, and the journal has lost it")),
            }
        }
        for event in story.events.iter().filter(|event| event.kind != EventKind::Gap as u8) {
            match tale.events.get(event.number as usize - 1) {
                Some(due) if due == event => {}
                due => return Err(format!("lane {lane}: event {event:?} was told, and it is {due:?}")),
            }
        }
        Ok(())
    }

    /// Whether the lane of a client that is not there was closed, once.
    pub fn check_closed(&self, story: &Story) -> Result<(), String> {
        match self.lanes.get(&story.lane) {
            Some(tale) if tale.closes != 1 => {
                Err(format!("lane {}: its client is gone, and it was closed {} times", story.lane, tale.closes))
            }
            _ => Ok(()),
        }
    }

    /// Whether a client that is there has heard everything.
    pub fn check_whole(&self, story: &Story) -> Result<(), String> {
        let Some(tale) = self.lanes.get(&story.lane) else { return Ok(()) };
        if tale.requests.len() != story.submitted.len() {
            return Err(format!("lane {}: {} slots were sent, and {} applied", story.lane, story.submitted.len(), tale.requests.len()));
        }
        let heard = story.events.last().map_or(0, |event| event.number);
        if heard != tale.events.len() as u64 {
            return Err(format!("lane {}: {heard} events were told, and there are {}", story.lane, tale.events.len()));
        }
        Ok(())
    }
}
