//! The whole state at one sequence number, on its way into a snapshot and out of one: the kernel's copy, the engine's numbers
//! and the lane table. It joins engine and snapshots; when one is made is the sequencer's business.
//!
//! | kind | version | rows |
//! | --- | --- | --- |
//! | 32 | 1 | one: next sequence number, output hash, highest lane number (u64 each) |
//! | 33 | 1 | open lanes: `LaneOpen`, slots journaled, events numbered, results kept, events kept (u64 each), 32 zero bytes |
//! | 34 | 1 | the kept results of all lanes, in the order of the table |
//! | 35 | 1 | the kept events of all lanes, in the order of the table |
//! | 36 | 1 | `AccountLimits` as the configuration had them last, ascending; not there in older snapshots |
//!
//! Results and events are kept as far as the lane's client has not released or taken them, so that it can be given them again:
//! no more than its rings hold.

use std::path::Path;

use ringlane_layout::limits::ACCOUNT_MAX;
use ringlane_layout::orders::{AccountLimits, OrderEvent, OrderResult};

use crate::engine::Engine;
use crate::journal::{LaneOpen, Snapshot, SnapshotHeader, list_snapshots};
use crate::kernels::orders::Frozen;
use crate::section::{SectionSink, put_rows};

const ENGINE: u32 = 32;
const LANES: u32 = 33;
const LANE_RESULTS: u32 = 34;
const LANE_EVENTS: u32 = 35;
const CONFIGURED: u32 = 36;
const LANE_ROW_BYTES: usize = 128;

/// An open lane in a snapshot.
#[derive(Debug, Clone, Default)]
pub struct LaneImage {
    /// How it was opened.
    pub open: LaneOpen,
    /// Slots that are journaled.
    pub slots: u64,
    /// Number of its last event.
    pub events: u64,
    /// Its last results, up to slot `slots`.
    pub results: Vec<OrderResult>,
    /// Its last events, up to number `events`.
    pub kept_events: Vec<OrderEvent>,
}

/// The state at one sequence number.
pub struct Image {
    /// The kernel's state.
    pub orders: Frozen,
    /// Sequence number of the next record.
    pub next_sequence: u64,
    /// Running hash of all outputs.
    pub output_hash: u64,
    /// Highest lane number so far.
    pub lane_last: u32,
    /// Open lanes.
    pub lanes: Vec<LaneImage>,
    /// What the configuration said of accounts last.
    pub configured: Vec<AccountLimits>,
}

impl Image {
    /// Copies the engine's state into prepared memory.
    #[must_use]
    pub fn of(engine: &Engine, mut orders: Frozen, lanes: Vec<LaneImage>) -> Self {
        engine.orders.freeze(&mut orders);
        let configured = engine.configured.records().collect();
        let (next_sequence, output_hash, lane_last) = (engine.next_sequence(), engine.output_hash(), engine.lane_last());
        Self { orders, next_sequence, output_hash, lane_last, lanes, configured }
    }

    /// Writes all sections.
    pub fn write(&self, sink: &mut dyn SectionSink) -> Result<(), String> {
        self.orders.write(sink)?;
        let words = [self.next_sequence, self.output_hash, u64::from(self.lane_last)];
        put_rows::<24>(sink, (ENGINE, 1), 1, std::iter::once(bytemuck::cast(words)))?;
        put_rows(sink, (LANES, 1), self.lanes.len(), self.lanes.iter().map(LaneImage::row))?;
        let results: Vec<&[u8]> = self.lanes.iter().map(|lane| bytemuck::cast_slice(&lane.results)).collect();
        put_all(sink, LANE_RESULTS, &results)?;
        let events: Vec<&[u8]> = self.lanes.iter().map(|lane| bytemuck::cast_slice(&lane.kept_events)).collect();
        put_all(sink, LANE_EVENTS, &events)?;
        put_all(sink, CONFIGURED, &[bytemuck::cast_slice(&self.configured)])
    }
}

fn put_all(sink: &mut dyn SectionSink, kind: u32, parts: &[&[u8]]) -> Result<(), String> {
    sink.begin(kind, 1, parts.iter().map(|part| part.len() as u64).sum())?;
    parts.iter().try_for_each(|part| sink.put(part))
}

impl LaneImage {
    fn row(&self) -> [u8; LANE_ROW_BYTES] {
        let mut row = [0; LANE_ROW_BYTES];
        row[..64].copy_from_slice(bytemuck::bytes_of(&self.open));
        let words = [self.slots, self.events, self.results.len() as u64, self.kept_events.len() as u64];
        row[64..96].copy_from_slice(bytemuck::bytes_of(&words));
        row
    }
}

/// A state that was loaded: the engine, the open lanes, and what the snapshot says of itself.
pub type Loaded = (Engine, Vec<LaneImage>, SnapshotHeader);

fn load(path: &Path, hash_seed: u64) -> Result<Loaded, String> {
    let (snapshot, mut engine) = (Snapshot::read(path)?, Engine::new(hash_seed));
    let lanes = restore(&mut engine, &snapshot).map_err(|words| format!("{}: {words}", path.display()))?;
    Ok((engine, lanes, snapshot.header))
}

/// The state in the newest snapshot of a directory that can be used; none when there is none.
pub fn load_newest(directory: &Path, hash_seed: u64) -> Option<Loaded> {
    list_snapshots(directory).into_iter().find_map(|(_, path)| {
        load(&path, hash_seed)
            .inspect_err(|words| tracing::warn!("a snapshot cannot be used, and the one before it is tried: {words}"))
            .ok()
    })
}

/// The engine and the open lanes as a snapshot has them. `engine` must be fresh; after an error it must not be used.
pub fn restore(engine: &mut Engine, snapshot: &Snapshot) -> Result<Vec<LaneImage>, String> {
    let (mut lanes, mut counts) = (Vec::new(), Vec::new());
    for section in snapshot.sections() {
        match section.kind {
            ENGINE => {
                for [next_sequence, output_hash, lane_last] in section.values::<[u64; 3]>(1)? {
                    engine.restore(next_sequence, output_hash, lane_last as u32);
                }
            }
            LANES => {
                for row in section.rows(1, LANE_ROW_BYTES)? {
                    let open: LaneOpen = bytemuck::pod_read_unaligned(&row[..64]);
                    let [slots, events, results, kept]: [u64; 4] = bytemuck::pod_read_unaligned(&row[64..96]);
                    engine.restore_lane(open);
                    lanes.push(LaneImage { open, slots, events, ..LaneImage::default() });
                    counts.push((results as usize, kept as usize));
                }
            }
            LANE_RESULTS => {
                let mut rows = section.values(1)?;
                lanes.iter_mut().zip(&counts).for_each(|(lane, (count, _))| lane.results = rows.by_ref().take(*count).collect());
            }
            LANE_EVENTS => {
                let mut rows = section.values(1)?;
                lanes.iter_mut().zip(&counts).for_each(|(lane, (_, count))| lane.kept_events = rows.by_ref().take(*count).collect());
            }
            CONFIGURED => {
                for range in section.values::<AccountLimits>(1)? {
                    let (first, last) = (range.account_first, range.account_last);
                    (1 <= first && first <= last && last <= ACCOUNT_MAX).then_some(()).ok_or("a configured range of accounts is none")?;
                    engine.configured.set(&range);
                }
            }
            _ if engine.orders.restore(&section)? => {}
            kind => return Err(format!("its section of kind {kind} is from a newer ringlane")),
        }
    }
    check(engine, snapshot).map(|()| lanes)
}

/// What was read must be what was written.
fn check(engine: &Engine, snapshot: &Snapshot) -> Result<(), String> {
    let header = &snapshot.header;
    let (sequence, output_hash, state_hash) = (engine.next_sequence() - 1, engine.output_hash(), engine.orders.state_hash());
    if (sequence, output_hash) != (header.sequence, header.output_hash) {
        return Err("its header and its sections disagree about where it was made".into());
    }
    if state_hash != header.state_hash {
        return Err(format!("its state has hash {state_hash:016x} in this build, and had {:016x} when it was made", header.state_hash));
    }
    Ok(())
}
