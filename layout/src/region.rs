//! Where each byte of a lane's two regions sits. Computed here once; both sides and `PROTOCOL.md` follow it.
//!
//! ```text
//! requests: written by the client only               results: written by the sidecar only
//! +0      magic "RLREQ001"                            +0      magic "RLRES001"
//! +8      layout version u32, record bytes u32        +8      layout version u32, record bytes u32
//! +16     depth u64 (slots)                           +16     depth u64 (slots)
//! +24     lane number u64                             +24     lane number u64
//! +32     schema hash of the request record u64       +32     schema hash of the result record u64
//!                                                     +40     event ring capacity u64 (events)
//! +128    submitted u64                               +128    completed u64
//! +256    released u64                                +256    asleep u64 (0 or 1)
//! +384    events_read u64                             +384    status u64 (0 open, else a LaneStatus)
//! +512    waiting u64 (cursor target, 0 none)         +512    events_published u64
//! +640    events_waiting u64 (cursor target, 0 none)
//! +4096   depth request records                       +4096   depth result records
//!                                                     +4096 + depth x 64   event ring
//! ```

use crate::codes;
use crate::limits::{
    DEPTH_SLOTS_MAX, DEPTH_SLOTS_MIN, EVENTS_MAX, EVENTS_MIN, HOT_WORD_STRIDE_BYTES, LAYOUT_VERSION, PAGE_BYTES, RECORD_BYTES,
};
use crate::ring::{ClientWords, SidecarWords};
use crate::shared::SharedBytes;

/// First eight bytes of a `requests` region.
pub const REQUESTS_MAGIC: u64 = u64::from_le_bytes(*b"RLREQ001");
/// First eight bytes of a `results` region.
pub const RESULTS_MAGIC: u64 = u64::from_le_bytes(*b"RLRES001");
/// Offset of the record ring in both regions, bytes.
pub const RING_OFFSET: usize = PAGE_BYTES;

/// Offsets of the client's cursors in `requests`, bytes.
pub mod requests_word {
    use super::HOT_WORD_STRIDE_BYTES as STRIDE;
    /// Slots the client has filled: 0..2^64, at most `depth` above `completed`.
    pub const SUBMITTED: usize = STRIDE;
    /// Slots the client no longer looks at: never above `completed`.
    pub const RELEASED: usize = 2 * STRIDE;
    /// Events the client has taken out of the event ring: never above `events_published`.
    pub const EVENTS_READ: usize = 3 * STRIDE;
    /// `completed` value that the client sleeps for; 0 when it does not sleep.
    pub const WAITING: usize = 4 * STRIDE;
    /// `events_published` value that the client sleeps for; 0 when it does not sleep.
    pub const EVENTS_WAITING: usize = 5 * STRIDE;
}

/// Offsets of the sidecar's words in `results`, bytes.
pub mod results_word {
    use super::HOT_WORD_STRIDE_BYTES as STRIDE;
    /// Slots whose results are written: never above `submitted`.
    pub const COMPLETED: usize = STRIDE;
    /// 1 while the sidecar does not poll this lane and needs a doorbell.
    pub const ASLEEP: usize = 2 * STRIDE;
    /// 0 while the lane is open, else a `LaneStatus`.
    pub const STATUS: usize = 3 * STRIDE;
    /// Events ever put into the event ring.
    pub const EVENTS_PUBLISHED: usize = 4 * STRIDE;
}

impl<'a> ClientWords<'a> {
    /// The words of a mapped `requests` region.
    #[inline]
    #[must_use]
    pub fn of(requests: &'a SharedBytes) -> Self {
        Self {
            submitted: requests.word(requests_word::SUBMITTED),
            released: requests.word(requests_word::RELEASED),
            events_read: requests.word(requests_word::EVENTS_READ),
            waiting: requests.word(requests_word::WAITING),
            events_waiting: requests.word(requests_word::EVENTS_WAITING),
        }
    }
}

impl<'a> SidecarWords<'a> {
    /// The words of a mapped `results` region.
    #[inline]
    #[must_use]
    pub fn of(results: &'a SharedBytes) -> Self {
        Self {
            completed: results.word(results_word::COMPLETED),
            asleep: results.word(results_word::ASLEEP),
            status: results.word(results_word::STATUS),
            events_published: results.word(results_word::EVENTS_PUBLISHED),
        }
    }
}

const _: () = assert!(requests_word::EVENTS_WAITING + HOT_WORD_STRIDE_BYTES <= PAGE_BYTES);

codes! {
    /// Why a lane is no longer open. 1xx: the client broke a rule of the protocol; 2xx: the lane was ended for it.
    pub enum LaneStatus: u64 {
        /// `submitted` ran more than `depth` slots ahead of `completed`: slots would overwrite each other. Use one writer a lane.
        SubmittedTooFar ("SUBMITTED_TOO_FAR") = 101,
        /// `submitted` went backwards. Only the shim may write cursors.
        SubmittedBackwards ("SUBMITTED_BACKWARDS") = 102,
        /// `released` is above `completed`, went backwards, or is so far behind that submitted slots were still held.
        ReleasedOutOfRange ("RELEASED_OUT_OF_RANGE") = 103,
        /// `events_read` is above `events_published` or went backwards.
        EventsReadOutOfRange ("EVENTS_READ_OUT_OF_RANGE") = 104,
        /// The doorbell rang too often without a new slot.
        DoorbellFlood ("DOORBELL_FLOOD") = 105,
        /// The client closed the lane.
        Closed ("CLOSED") = 201,
        /// The sidecar is shutting down.
        ShuttingDown ("SHUTTING_DOWN") = 202,
        /// The sidecar cannot write its journal, so it takes no more requests; see its log.
        JournalFailed ("JOURNAL_FAILED") = 203,
        /// An administrator ended the lane; open another, or ask why.
        Disconnected ("DISCONNECTED") = 204,
    }
}

impl LaneStatus {
    /// What to say to somebody whose lane has this status word.
    #[must_use]
    pub fn words(status: u64) -> String {
        let known = Self::SCHEMA.members.iter().find(|member| member.value == status);
        known.map_or_else(
            || format!("the sidecar closed this lane with status {status}, which this build does not know"),
            |member| format!("the sidecar closed this lane: {} ({status}). {}", member.name, member.doc),
        )
    }
}

/// The sizes and offsets of one lane, computed from depth and event capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneGeometry {
    /// Slots; a power of two in `DEPTH_SLOTS_MIN..=DEPTH_SLOTS_MAX`.
    pub depth_slots: u64,
    /// Events in the event ring; a power of two in `EVENTS_MIN..=EVENTS_MAX`.
    pub event_capacity: u64,
}

impl LaneGeometry {
    /// Rounds both up to powers of two. An error names the allowed range.
    pub fn new(depth_slots: u64, event_capacity: u64) -> Result<Self, String> {
        if depth_slots == 0 || depth_slots > DEPTH_SLOTS_MAX {
            return Err(format!("depth must be 1 to {DEPTH_SLOTS_MAX} slots, not {depth_slots}"));
        }
        if event_capacity == 0 || event_capacity > EVENTS_MAX {
            return Err(format!("the event ring must hold 1 to {EVENTS_MAX} events, not {event_capacity}"));
        }
        Ok(Self {
            depth_slots: depth_slots.next_power_of_two().max(DEPTH_SLOTS_MIN),
            event_capacity: event_capacity.next_power_of_two().max(EVENTS_MIN),
        })
    }

    /// Sizes that were granted, which are already what [`LaneGeometry::new`] makes of them.
    pub fn granted(depth_slots: u64, event_capacity: u64) -> Result<Self, String> {
        let granted = Self { depth_slots, event_capacity };
        let made = Self::new(depth_slots, event_capacity)?;
        if made == granted { Ok(made) } else { Err(format!("depth {depth_slots} and events {event_capacity} must be powers of two")) }
    }

    /// Size of one copy of a record ring, bytes.
    #[must_use]
    pub const fn ring_bytes(&self) -> usize {
        self.depth_slots as usize * RECORD_BYTES
    }

    /// Size of one copy of the event ring, bytes.
    #[must_use]
    pub const fn event_ring_bytes(&self) -> usize {
        self.event_capacity as usize * RECORD_BYTES
    }

    /// Size of `requests`, bytes.
    #[must_use]
    pub const fn requests_bytes(&self) -> usize {
        RING_OFFSET + self.ring_bytes()
    }

    /// Offset of the event ring in `results`, bytes.
    #[must_use]
    pub const fn event_ring_offset(&self) -> usize {
        RING_OFFSET + self.ring_bytes()
    }

    /// Size of `results`, bytes.
    #[must_use]
    pub const fn results_bytes(&self) -> usize {
        self.event_ring_offset() + self.event_ring_bytes()
    }

    /// Offset of slot `first` in either region. Where the ring is mapped twice in a row, the slots behind it are contiguous.
    #[inline]
    #[must_use]
    pub const fn slot_offset(&self, first: u64) -> usize {
        RING_OFFSET + (first & (self.depth_slots - 1)) as usize * RECORD_BYTES
    }

    /// Refuses a mapped region whose header is not the one of this lane.
    pub fn check_header(&self, region: &SharedBytes, magic: u64, lane: u64, schema_hash: u64) -> Result<(), String> {
        let (mut found, expected) = ([0; 48], self.header(magic, lane, schema_hash));
        region.read(0, &mut found);
        // The event capacity stands in both headers, but only the one of `results` must have it.
        let counts = if magic == RESULTS_MAGIC { 48 } else { 40 };
        if found[..counts] == expected[..counts] {
            return Ok(());
        }
        let name = if magic == RESULTS_MAGIC { "results" } else { "requests" };
        Err(format!("the header of the {name} region is not the one that the sidecar described"))
    }

    /// The first 48 bytes of a region's header page.
    #[must_use]
    pub fn header(&self, magic: u64, lane: u64, schema_hash: u64) -> [u8; 48] {
        let mut header = [0; 48];
        header[0..8].copy_from_slice(&magic.to_le_bytes());
        header[8..12].copy_from_slice(&LAYOUT_VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
        header[16..24].copy_from_slice(&self.depth_slots.to_le_bytes());
        header[24..32].copy_from_slice(&lane.to_le_bytes());
        header[32..40].copy_from_slice(&schema_hash.to_le_bytes());
        header[40..48].copy_from_slice(&self.event_capacity.to_le_bytes());
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_size_is_a_page_aligned_geometry_or_words(depth: u64, events: u64) {
            match LaneGeometry::new(depth, events) {
                Ok(geometry) => {
                    prop_assert!(geometry.depth_slots.is_power_of_two() && geometry.depth_slots >= depth);
                    prop_assert_eq!(geometry.requests_bytes() % PAGE_BYTES, 0);
                    prop_assert_eq!(geometry.results_bytes() % PAGE_BYTES, 0);
                    prop_assert_eq!(geometry.event_ring_offset() % PAGE_BYTES, 0);
                }
                Err(words) => prop_assert!(words.contains("must")),
            }
        }

        #[test]
        fn any_number_is_a_status_or_an_error(value: u64) {
            if let Ok(status) = LaneStatus::try_from(value) { prop_assert_eq!(status as u64, value); }
        }
    }
}
