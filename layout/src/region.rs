//! Where each byte of a lane's two regions sits. Computed here once; both sides and `PROTOCOL.md` follow it.
//!
//! ```text
//! requests: written by the client only               results: written by the sidecar only
//! +0      magic "RLREQ001"                            +0      magic "RLRES001"
//! +8      layout version u32, slot bytes u32          +8      layout version u32, slot bytes u32
//! +16     depth u64 (slots)                           +16     depth u64 (slots)
//! +24     lane number u64                             +24     lane number u64
//! +32     schema hash of the request record u64       +32     schema hash of the result record u64
//! +40     event ring capacity u64 (events)            +40     event ring capacity u64 (events)
//! +48     payload arena u64 (bytes)                   +48     zero
//! +128    submitted u64                               +128    completed u64
//! +256    released u64                                +256    asleep u64 (0 or 1)
//! +384    events_read u64                             +384    status u64 (0 open, else a LaneStatus)
//! +512    waiting u64 (cursor target, 0 none)         +512    events_published u64
//! +640    events_waiting u64 (cursor target, 0 none)
//! +768    let_go u64
//! +4096   depth request slots                         +4096   depth result slots
//! behind  payload arena                               behind  event ring
//! ```
//! An order lane that is traced has in the place of the payload arena a side table with `SPAN_CONTEXT_BYTES` a slot: the span
//! that the slot's request belongs to, as [`SpanContext`], or zeros. Its records stay as they are.
//! The slots of each region have a size of their own, a multiple of 64 bytes; an order lane's are 64 bytes, without arenas.
//! A client maps the slots of each region twice in a row, so that any run of slots is contiguous; what stands behind them in
//! the region then stands behind their second copy.

use crate::codes;
use crate::limits::{
    ARENA_BYTES_MAX, DEPTH_SLOTS_MAX, DEPTH_SLOTS_MIN, EVENTS_MAX, EVENTS_MIN, HOT_WORD_STRIDE_BYTES, LAYOUT_VERSION, PAGE_BYTES,
    RECORD_BYTES, REGION_BYTES_MAX, SLOT_BYTES_MAX,
};
use crate::ring::{ClientWords, SidecarWords};
use crate::shared::SharedBytes;

/// First eight bytes of a `requests` region.
pub const REQUESTS_MAGIC: u64 = u64::from_le_bytes(*b"RLREQ001");
/// First eight bytes of a `results` region.
pub const RESULTS_MAGIC: u64 = u64::from_le_bytes(*b"RLRES001");
/// Offset of the slots in both regions, bytes.
pub const RING_OFFSET: usize = PAGE_BYTES;
/// Bytes at the start of a region that say what it is.
pub const HEADER_BYTES: usize = 56;

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
    /// Slots below this are looked at by nobody in the client, completed or not. It is for people, who see it on the board:
    /// nothing is decided by it. At most `submitted`; 0 when the client does not say.
    pub const LET_GO: usize = 6 * STRIDE;
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

const _: () = assert!(requests_word::LET_GO + HOT_WORD_STRIDE_BYTES <= PAGE_BYTES);

codes! {
    /// Why a lane is no longer open. 1xx: the client broke a rule of the protocol; 2xx: the lane was ended for it; 3xx: its
    /// kernel failed.
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
        /// A payload does not lie inside of the lane's arena. Only what was put into the arena can be worked on.
        PayloadOutOfRange ("PAYLOAD_OUT_OF_RANGE") = 106,
        /// The client closed the lane.
        Closed ("CLOSED") = 201,
        /// The sidecar is shutting down.
        ShuttingDown ("SHUTTING_DOWN") = 202,
        /// The sidecar cannot write its journal, so it takes no more requests; see its log.
        JournalFailed ("JOURNAL_FAILED") = 203,
        /// An administrator ended the lane; open another, or ask why.
        Disconnected ("DISCONNECTED") = 204,
        /// The sidecar was started anew, and the client did not come back to its lane within `[lanes] reattach_grace_ms`; open another.
        NotBack ("NOT_BACK") = 205,
        /// The kernel of this lane panicked over a batch of it; its log says where. Other lanes go on.
        KernelPanicked ("KERNEL_PANICKED") = 301,
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

/// Size of a slot's place in the side table of a traced lane, bytes.
pub const SPAN_CONTEXT_BYTES: usize = 32;

/// The span that a request belongs to: trace id (16 bytes), span id (8), flags (1), zero (7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// Names the trace; not all zero.
    pub trace_id: [u8; 16],
    /// Names the span; not all zero.
    pub span_id: [u8; 8],
    /// W3C trace flags; bit 0: sampled.
    pub flags: u8,
}

impl SpanContext {
    /// Offset of the flags, bytes.
    pub const FLAGS: usize = 24;
    /// Bit of `flags`: somebody wants to see this span.
    pub const SAMPLED: u8 = 1;

    /// What a client wrote, if it is the context of a sampled span.
    #[must_use]
    pub fn sampled(bytes: &[u8; SPAN_CONTEXT_BYTES]) -> Option<Self> {
        let (trace_id, rest) = bytes.split_first_chunk()?;
        let (span_id, rest) = rest.split_first_chunk()?;
        let (flags, zero) = rest.split_first()?;
        let is_one = flags & Self::SAMPLED != 0 && *trace_id != [0; 16] && *span_id != [0; 8] && zero == [0; 7];
        is_one.then_some(Self { trace_id: *trace_id, span_id: *span_id, flags: *flags })
    }
}

/// What a lane needs beside its depth: the sizes of its slots, of its event ring and of its arenas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneSizes {
    /// Size of a request slot, bytes; a multiple of 64.
    pub request_slot_bytes: u64,
    /// Size of a result slot, bytes; a multiple of 64.
    pub result_slot_bytes: u64,
    /// Places of the event ring; 0 for kernels without events.
    pub event_capacity: u64,
    /// Size of the payload arena in `requests`, bytes; 0 for none.
    pub arena_bytes: u64,
}

/// The sizes and offsets of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneGeometry {
    /// Slots; a power of two in `DEPTH_SLOTS_MIN..=DEPTH_SLOTS_MAX`.
    pub depth_slots: u64,
    /// Events in the event ring; 0, or a power of two in `EVENTS_MIN..=EVENTS_MAX`.
    pub event_capacity: u64,
    /// Size of a request slot, bytes; a multiple of 64 up to `SLOT_BYTES_MAX`.
    pub request_slot_bytes: u64,
    /// Size of a result slot, bytes; a multiple of 64 up to `SLOT_BYTES_MAX`.
    pub result_slot_bytes: u64,
    /// Size of the payload arena, bytes; a multiple of the page up to `ARENA_BYTES_MAX`.
    pub arena_bytes: u64,
}

impl LaneGeometry {
    /// An order lane: slots of one record, events, no arenas. Rounds both up to powers of two.
    pub fn new(depth_slots: u64, event_capacity: u64) -> Result<Self, String> {
        if event_capacity == 0 {
            return Err(format!("the event ring must hold 1 to {EVENTS_MAX} events, not 0"));
        }
        let slot = RECORD_BYTES as u64;
        let sizes = LaneSizes { request_slot_bytes: slot, result_slot_bytes: slot, event_capacity, arena_bytes: 0 };
        Self::sized(depth_slots, sizes)
    }

    /// The same order lane with a side table for the spans of its requests.
    pub fn traced(self) -> Result<Self, String> {
        let Self { depth_slots, event_capacity, request_slot_bytes, result_slot_bytes, .. } = self;
        let arena_bytes = depth_slots * SPAN_CONTEXT_BYTES as u64;
        Self::sized(depth_slots, LaneSizes { request_slot_bytes, result_slot_bytes, event_capacity, arena_bytes })
    }

    /// Offset of a slot's place in the side table of a traced lane.
    #[inline]
    #[must_use]
    pub const fn span_context_offset(&self, slot: u64) -> usize {
        self.arena_offset() + (slot & (self.depth_slots - 1)) as usize * SPAN_CONTEXT_BYTES
    }

    /// Rounds depth and events up to powers of two and arenas to pages. An error names the allowed range.
    pub fn sized(depth_slots: u64, sizes: LaneSizes) -> Result<Self, String> {
        let LaneSizes { request_slot_bytes, result_slot_bytes, event_capacity, arena_bytes } = sizes;
        if depth_slots == 0 || depth_slots > DEPTH_SLOTS_MAX {
            return Err(format!("depth must be 1 to {DEPTH_SLOTS_MAX} slots, not {depth_slots}"));
        }
        if event_capacity > EVENTS_MAX {
            return Err(format!("the event ring must hold 1 to {EVENTS_MAX} events, not {event_capacity}"));
        }
        for slot_bytes in [request_slot_bytes, result_slot_bytes] {
            if slot_bytes == 0 || slot_bytes > SLOT_BYTES_MAX || !slot_bytes.is_multiple_of(RECORD_BYTES as u64) {
                return Err(format!("a slot must have a multiple of 64 bytes up to {SLOT_BYTES_MAX}, not {slot_bytes}"));
            }
        }
        if arena_bytes > ARENA_BYTES_MAX {
            return Err(format!("an arena must have at most {ARENA_BYTES_MAX} bytes, not {arena_bytes}"));
        }
        let geometry = Self {
            depth_slots: depth_slots.next_power_of_two().max(DEPTH_SLOTS_MIN),
            event_capacity: if event_capacity == 0 { 0 } else { event_capacity.next_power_of_two().max(EVENTS_MIN) },
            request_slot_bytes,
            result_slot_bytes,
            arena_bytes: arena_bytes.next_multiple_of(PAGE_BYTES as u64),
        };
        let largest = geometry.requests_bytes().max(geometry.results_bytes()) as u64;
        if largest > REGION_BYTES_MAX {
            return Err(format!("a region must have at most {REGION_BYTES_MAX} bytes, not {largest}; open a shallower lane"));
        }
        Ok(geometry)
    }

    /// Sizes that were granted, which are already what [`LaneGeometry::sized`] makes of them: depth, events, bytes of a request
    /// slot and of a result slot, and of the payload arena.
    pub fn granted(numbers: [u64; 5]) -> Result<Self, String> {
        let [depth_slots, event_capacity, request_slot_bytes, result_slot_bytes, arena_bytes] = numbers;
        let made = Self::sized(depth_slots, LaneSizes { request_slot_bytes, result_slot_bytes, event_capacity, arena_bytes })?;
        let granted = Self { depth_slots, event_capacity, request_slot_bytes, result_slot_bytes, arena_bytes };
        if made == granted {
            return Ok(made);
        }
        Err(format!("depth {depth_slots} and events {event_capacity} must be powers of two, and arenas whole pages"))
    }

    /// A number of slots that a reservation may have. An error names the range.
    pub fn slots_of(&self, count: i64) -> Result<u64, String> {
        let (depth, slots) = (self.depth_slots, u64::try_from(count).ok());
        slots
            .filter(|slots| (1..=depth).contains(slots))
            .ok_or_else(|| format!("a reservation holds 1 to {depth} slots (the lane's depth), not {count}"))
    }

    /// Size of one copy of the request ring, bytes.
    #[must_use]
    pub const fn request_ring_bytes(&self) -> usize {
        (self.depth_slots * self.request_slot_bytes) as usize
    }

    /// Size of one copy of the result ring, bytes.
    #[must_use]
    pub const fn result_ring_bytes(&self) -> usize {
        (self.depth_slots * self.result_slot_bytes) as usize
    }

    /// Size of one copy of the event ring, bytes.
    #[must_use]
    pub const fn event_ring_bytes(&self) -> usize {
        self.event_capacity as usize * RECORD_BYTES
    }

    /// Offset of the payload arena in `requests`, bytes.
    #[must_use]
    pub const fn arena_offset(&self) -> usize {
        RING_OFFSET + self.request_ring_bytes()
    }

    /// Size of `requests`, bytes.
    #[must_use]
    pub const fn requests_bytes(&self) -> usize {
        self.arena_offset() + self.arena_bytes as usize
    }

    /// Offset of the event ring in `results`, bytes.
    #[must_use]
    pub const fn event_ring_offset(&self) -> usize {
        RING_OFFSET + self.result_ring_bytes()
    }

    /// Size of `results`, bytes.
    #[must_use]
    pub const fn results_bytes(&self) -> usize {
        self.event_ring_offset() + self.event_ring_bytes()
    }

    /// Offset of request slot `first` in `requests`. Where the ring is mapped twice in a row, the slots behind it are contiguous.
    #[inline]
    #[must_use]
    pub const fn request_offset(&self, first: u64) -> usize {
        RING_OFFSET + ((first & (self.depth_slots - 1)) * self.request_slot_bytes) as usize
    }

    /// Offset of result slot `first` in `results`; as [`LaneGeometry::request_offset`].
    #[inline]
    #[must_use]
    pub const fn result_offset(&self, first: u64) -> usize {
        RING_OFFSET + ((first & (self.depth_slots - 1)) * self.result_slot_bytes) as usize
    }

    /// Refuses a mapped region whose header is not the one of this lane.
    pub fn check_header(&self, region: &SharedBytes, magic: u64, lane: u64, schema_hash: u64) -> Result<(), String> {
        let mut found = [0; HEADER_BYTES];
        region.read(0, &mut found);
        if found == self.header(magic, lane, schema_hash) {
            return Ok(());
        }
        let name = if magic == RESULTS_MAGIC { "results" } else { "requests" };
        Err(format!("the header of the {name} region is not the one that the sidecar described"))
    }

    /// The first bytes of a region's header page.
    #[must_use]
    pub fn header(&self, magic: u64, lane: u64, schema_hash: u64) -> [u8; HEADER_BYTES] {
        let is_results = magic == RESULTS_MAGIC;
        let slot_bytes = if is_results { self.result_slot_bytes } else { self.request_slot_bytes };
        let arena_bytes = if is_results { 0 } else { self.arena_bytes };
        let mut header = [0; HEADER_BYTES];
        header[0..8].copy_from_slice(&magic.to_le_bytes());
        header[8..12].copy_from_slice(&LAYOUT_VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(slot_bytes as u32).to_le_bytes());
        let words = [self.depth_slots, lane, schema_hash, self.event_capacity, arena_bytes];
        for (place, word) in header[16..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sizes() -> impl Strategy<Value = LaneSizes> {
        let slot = prop_oneof![4 => (0..=SLOT_BYTES_MAX / 64 + 1).prop_map(|records| records * 64), 1 => any::<u64>()];
        let arena = prop_oneof![4 => 0..=1_u64 << 33, 1 => any::<u64>()];
        let events = prop_oneof![4 => 0..=EVENTS_MAX + 1, 1 => any::<u64>()];
        (slot.clone(), slot, events, arena).prop_map(|sizes| LaneSizes {
            request_slot_bytes: sizes.0,
            result_slot_bytes: sizes.1,
            event_capacity: sizes.2,
            arena_bytes: sizes.3,
        })
    }

    proptest! {
        #[test]
        fn any_size_is_a_page_aligned_geometry_or_words(depth in prop_oneof![4 => 0..=DEPTH_SLOTS_MAX + 1, 1 => any::<u64>()], sizes in sizes()) {
            match LaneGeometry::sized(depth, sizes) {
                Ok(geometry) => {
                    prop_assert!(geometry.depth_slots.is_power_of_two() && geometry.depth_slots >= depth);
                    prop_assert!(geometry.arena_bytes >= sizes.arena_bytes);
                    let ends = [geometry.arena_offset(), geometry.requests_bytes(), geometry.event_ring_offset(), geometry.results_bytes()];
                    prop_assert!(ends.iter().all(|end| end.is_multiple_of(PAGE_BYTES) && *end as u64 <= REGION_BYTES_MAX), "{:?}", ends);
                    let last = geometry.depth_slots - 1;
                    prop_assert_eq!(geometry.request_offset(last) + sizes.request_slot_bytes as usize, geometry.arena_offset());
                    prop_assert_eq!(geometry.result_offset(last) + sizes.result_slot_bytes as usize, geometry.event_ring_offset());
                    let g = geometry;
                    let numbers = [g.depth_slots, g.event_capacity, g.request_slot_bytes, g.result_slot_bytes, g.arena_bytes];
                    prop_assert_eq!(LaneGeometry::granted(numbers), Ok(geometry));
                }
                Err(words) => prop_assert!(words.contains("must")),
            }
        }

        #[test]
        fn any_number_is_a_status_or_an_error(value: u64) {
            if let Ok(status) = LaneStatus::try_from(value) { prop_assert_eq!(status as u64, value); }
        }
    }

    #[test]
    fn an_order_lane_has_slots_of_one_record_and_events() {
        let geometry = LaneGeometry::new(100, 1).unwrap();
        assert_eq!((geometry.depth_slots, geometry.event_capacity), (128, EVENTS_MIN));
        assert_eq!((geometry.requests_bytes(), geometry.results_bytes()), (4096 + 128 * 64, 4096 + 128 * 64 + 64 * 64));
        assert!(LaneGeometry::new(100, 0).is_err());
    }

    #[test]
    fn a_traced_lane_has_a_place_for_a_span_behind_its_slots() {
        let plain = LaneGeometry::new(256, 64).unwrap();
        let traced = plain.traced().unwrap();
        assert_eq!((traced.depth_slots, traced.arena_bytes), (256, 256 * 32));
        assert_eq!(traced.span_context_offset(0), plain.requests_bytes());
        assert_eq!(traced.span_context_offset(256 + 255) + SPAN_CONTEXT_BYTES, traced.requests_bytes());
    }

    #[test]
    fn only_whole_contexts_of_sampled_spans_count() {
        let mut bytes = [0; SPAN_CONTEXT_BYTES];
        (bytes[0], bytes[16], bytes[24]) = (1, 2, 1);
        assert_eq!(SpanContext::sampled(&bytes).map(|context| (context.trace_id[0], context.span_id[0], context.flags)), Some((1, 2, 1)));
        for (place, value) in [(0, 0), (16, 0), (24, 0), (24, 2), (31, 1)] {
            let mut wrong = bytes;
            wrong[place] = value;
            assert_eq!(SpanContext::sampled(&wrong), None, "{place}");
        }
    }
}
