//! The sequencer: the one thread that takes slots from lanes, gives each its global sequence number, journals it, runs the
//! kernel and publishes results. It decides *when*; what a record means is decided by kernels, what is believed of a peer by lanes.

mod absent;
mod administration;
mod commands;
mod counters;
mod durability;
mod idle;
mod keeping;
mod market;
mod snapshots;
mod spans;
mod turns;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use crossbeam::utils::CachePadded;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use ringlane_layout::limits::{
    BATCH_SLOTS_MAX, COMMANDS_MAX, DOORBELLS_A_LOOK, EMPTY_DOORBELLS_MAX, LANES_MAX, LOOK_AROUND_WORK, PARALLEL_BATCH_SLOTS_MAX,
    SLEEP_NS_MAX,
};
use ringlane_layout::record::RecordBytes;
use ringlane_layout::region::LaneStatus;

use crate::board::Board;
use crate::config::{SequencerConfig, SnapshotsConfig};
use crate::cores;
use crate::engine::Engine;
use crate::jobs::Heat;
use crate::journal::{FrameKind, FrameMeta, Writer};
use crate::lanes::Lane;
use crate::market::Market;
use crate::world;

use absent::Absent;
use commands::Wake;
use counters::Watch;
use durability::Gate;
use idle::Idle;
use snapshots::Snapshots;
use spans::Tracing;
use turns::Turn;

pub use absent::Return;
pub use administration::Administration;
pub use commands::{Command, Commands};
pub use keeping::JobPiece;
pub use snapshots::SnapshotNews;

/// Epoll data of the sequencer's own wake-up; lane numbers stay below.
const WAKE: u64 = u64::MAX;

/// What the sequencer remembers from one turn to the next.
#[derive(Default)]
pub struct Pace {
    /// Work since it last looked around.
    since_look: u64,
    idle: Idle,
}

/// Everything the sequencer owns.
pub struct Sequencer {
    engine: Engine,
    journal: Option<Writer>,
    board: Board,
    heat: Arc<Heat>,
    config: SequencerConfig,
    /// Lanes by board row.
    lanes: Vec<Option<Box<Lane>>>,
    /// What is remembered of each row's lane between its turns.
    turns: Vec<Turn>,
    /// Row of each lane number.
    rows: Vec<u16>,
    /// Rows of the lanes that are polled.
    hot: Vec<usize>,
    epoll: Epoll,
    commands: Receiver<Command>,
    wake: Arc<Wake>,
    /// Private copies of requests when nothing is journaled.
    scratch: Box<[RecordBytes]>,
    /// From how many waiting slots of a lane that is alone on a batch may be large enough for several threads.
    parallel_from: u64,
    /// Rows whose events must be published at the end of the batch.
    notified: Vec<u16>,
    /// Wall clock, read now and then, nanoseconds since 1970.
    now_ns: u64,
    /// Rows of lanes that dropped events which their GAP has not told yet.
    gapped: Vec<u16>,
    /// Lanes whose clients are away.
    absent: Vec<Absent>,
    /// How long a client may be away after a start.
    grace: Duration,
    market: Market,
    /// None: nothing is recorded.
    snapshots: Option<Snapshots>,
    lane_count: u64,
    faults: u64,
    sleeps: u64,
    /// Whether the journal had no room for the last batch.
    is_blocked: bool,
    gate: Gate,
    watch: Watch,
    tracing: Tracing,
    /// When the trading day ends next, nanoseconds since 1970; the largest number for never.
    day_ends_ns: u64,
    stopping: bool,
}

impl Sequencer {
    /// A sequencer over an engine that recovery has brought up to date.
    pub fn new(
        engine: Engine,
        journal: Option<Writer>,
        board: Board,
        heat: Arc<Heat>,
        config: SequencerConfig,
    ) -> Result<(Self, Commands), String> {
        let say = |error: nix::errno::Errno| format!("cannot prepare the sequencer: {error}");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(say)?;
        let eventfd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(say)?;
        epoll.add(&eventfd, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).map_err(say)?;
        let wake = Arc::new(Wake { pending: CachePadded::new(AtomicBool::new(false)), eventfd, pulse: CachePadded::default() });
        let (queue, commands) = bounded(COMMANDS_MAX);
        let watch = Watch::new(&board, config.counters);
        let day_ends_ns = config.next_day_end_ns(wall_clock_ns());
        let gate = Gate::new(journal.as_ref().is_some_and(Writer::is_gated), engine.orders.counters());
        let parallel_from = engine.parallel_from();
        let sequencer = Self {
            engine,
            journal,
            board,
            heat,
            config,
            lanes: Vec::new(),
            turns: Vec::new(),
            rows: Vec::new(),
            hot: Vec::with_capacity(LANES_MAX),
            epoll,
            commands,
            wake: Arc::clone(&wake),
            scratch: vec![bytemuck::Zeroable::zeroed(); if parallel_from.is_some() { PARALLEL_BATCH_SLOTS_MAX } else { BATCH_SLOTS_MAX }]
                .into(),
            parallel_from: parallel_from.map_or(u64::MAX, |slots| slots as u64),
            notified: Vec::with_capacity(LANES_MAX),
            now_ns: wall_clock_ns(),
            gapped: Vec::new(),
            absent: Vec::new(),
            grace: Duration::ZERO,
            market: Market::default(),
            snapshots: None,
            lane_count: 0,
            faults: 0,
            sleeps: 0,
            is_blocked: false,
            gate,
            watch,
            tracing: Tracing::default(),
            day_ends_ns,
            stopping: false,
        };
        sequencer.hear_commits();
        sequencer.introduce_kernels();
        Ok((sequencer, Commands { queue, wake }))
    }

    /// Makes snapshots in the journal's directory, of which the newest so far stands at `sequence`.
    pub fn snapshot_into(
        &mut self,
        directory: &Path,
        config: SnapshotsConfig,
        (epoch, sequence): (u64, u64),
        news: Arc<SnapshotNews>,
    ) -> Result<(), String> {
        let wake = Arc::clone(&self.wake);
        self.snapshots = Some(Snapshots::start(config, directory.to_owned(), (epoch, sequence), wake, news)?);
        Ok(())
    }

    /// Leaves what it does with the requests of sampled spans in this queue.
    #[cfg(feature = "otel")]
    pub fn trace_into(&mut self, queue: Arc<crate::traces::TraceQueue>) {
        self.tracing = Tracing::into_queue(queue);
    }

    /// Runs until it is told to stop; gives the engine back.
    pub fn run(mut self) -> Engine {
        if let Some(cpu) = self.config.cpu {
            cores::keep(cpu);
        }
        let mut pace = Pace::default();
        let go_round = || {
            while !self.is_over() {
                self.turn(&mut pace);
            }
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(go_round)) {
            self.save_journal();
            resume_unwind(panic);
        }
        self.finish()
    }

    /// The engine, as the turns so far left it.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether it was told to stop, and every lane has ended.
    #[inline]
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stopping && self.lane_count == 0
    }

    /// One round over all hot lanes, and what is due beside it.
    #[inline]
    pub fn turn(&mut self, pace: &mut Pace) {
        if self.wake.pending.load(Ordering::Relaxed) && !self.stopping {
            self.obey();
        }
        if self.is_blocked {
            self.try_unblock();
        }
        let mut work = 0;
        let mut index = 0;
        while index < self.hot.len() {
            let row = self.hot[index];
            work += self.serve(row);
            // `serve` removes a faulted lane from `hot`.
            index += usize::from(self.hot.get(index) == Some(&row));
        }
        self.watch.end_round(work > 0);
        self.settle();
        if work > 0 {
            pace.since_look += work;
            pace.idle.end();
        } else if pace.idle.turn(Duration::from_micros(self.config.spin_us)) {
            pace.since_look = LOOK_AROUND_WORK;
        }
        if pace.since_look >= LOOK_AROUND_WORK {
            pace.since_look = 0;
            self.look_around();
        }
        if self.hot.is_empty() && !self.stopping {
            self.sleep();
            pace.idle.end();
        }
    }

    /// The clean end, when it is over; gives the engine back.
    #[must_use]
    pub fn finish(mut self) -> Engine {
        if self.settle_all() {
            self.finish_snapshots();
        } else {
            self.give_up();
        }
        if let Some(journal) = self.journal {
            journal.close(&meta(&self.engine, FrameKind::Stop, 0, 0, 0, wall_clock_ns()));
        }
        self.engine
    }

    /// Puts the events of what was applied last into the rings of their lanes, or keeps them for clients that are away; a lane
    /// that is gone has no ring, and its events end here.
    fn send_events(&mut self) {
        for outgoing in self.engine.outputs(0).events {
            let row = self.rows.get(outgoing.lane as usize).copied().unwrap_or(u16::MAX);
            let lane = self.lanes.get_mut(usize::from(row)).and_then(Option::as_mut).filter(|lane| lane.number == outgoing.lane);
            let Some(lane) = lane else {
                if let Some(absent) = self.absent.iter_mut().find(|absent| absent.open.lane == outgoing.lane) {
                    absent.kept.add_event(outgoing.event);
                }
                continue;
            };
            let list = match lane.push_event(outgoing.event) {
                Ok(true) => &mut self.notified,
                Ok(false) => &mut self.gapped,
                Err(_) => {
                    self.notified.push(row | FAULTED_ROW);
                    continue;
                }
            };
            if !list.contains(&row) {
                list.push(row);
            }
        }
    }

    /// Makes the events of a batch visible; a lane whose `events_read` lies is faulted.
    fn publish_events(&mut self) {
        while let Some(mark) = self.notified.pop() {
            let row = usize::from(mark & !FAULTED_ROW);
            match &mut self.lanes[row] {
                Some(_) if mark & FAULTED_ROW == 0 && self.gate.is_on => self.touch(row),
                Some(lane) if mark & FAULTED_ROW == 0 => {
                    lane.publish_events();
                    lane.shown = false;
                    // Its owner may be quiet: nothing else would tell the board of events that it drops.
                    if lane.parked {
                        self.publish_lane(row);
                    }
                }
                Some(_) => self.fault(row, LaneStatus::EventsReadOutOfRange),
                None => {}
            }
        }
    }

    /// One beat of the pulse that the watchdog is fed by.
    fn beat(&self) {
        let pulse = &self.wake.pulse;
        pulse.store(pulse.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Looks at the clock, the doorbells and the lanes that have become quiet.
    #[cold]
    fn look_around(&mut self) {
        self.beat();
        self.now_ns = wall_clock_ns();
        self.tell_time_when_due();
        self.collect_doorbells(EpollTimeout::ZERO);
        if self.survey_due() {
            self.survey();
            self.end_absent();
        }
        self.publish_totals();
        self.retry_gaps();
        self.survey_parked();
        self.step_snapshot();
    }

    /// Tells the board of lanes that were busy, and parks those that have become quiet.
    fn survey(&mut self) {
        // Jobs that wait for this core are worth a doorbell.
        let quiet_us = if self.heat.is_wanted() { self.config.spin_us.min(self.config.park_after_us) } else { self.config.park_after_us };
        let park_after_ns = quiet_us * 1000;
        let mut index = 0;
        while index < self.hot.len() {
            let row = self.hot[index];
            let (mut quiet, mut news) = (true, false);
            if let Some(lane) = &mut self.lanes[row] {
                if std::mem::take(&mut lane.busy) {
                    lane.busy_ns = self.now_ns;
                    lane.shown = false;
                }
                // A lane in debt stays in the round until it has paid: it may not sleep its debt off.
                quiet = self.now_ns.saturating_sub(lane.busy_ns) > park_after_ns && lane.deficit >= 0 && lane.park();
                news = quiet || !std::mem::replace(&mut lane.shown, true);
            }
            if news {
                self.publish_lane(row);
            }
            if quiet {
                self.hot.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Tells lagging readers of their gaps as soon as they have made room.
    fn retry_gaps(&mut self) {
        for index in (0..self.gapped.len()).rev() {
            let row = usize::from(self.gapped[index]);
            let told = self.lanes[row].as_mut().map(|lane| {
                lane.shown = false;
                lane.retry_gap()
            });
            match &mut self.lanes[row] {
                Some(_) if self.gate.is_on => self.touch(row),
                Some(lane) => lane.publish_events(),
                None => {}
            }
            if self.lanes[row].as_ref().is_some_and(|lane| lane.parked) {
                self.publish_lane(row);
            }
            if !matches!(told, Some(Ok(false))) {
                self.gapped.swap_remove(index);
            }
            if let Some(Err(status)) = told {
                self.fault(row, status);
            }
        }
    }

    /// Sleeps until a doorbell or a command; every lane is parked. Bounded, and everything is looked at again after.
    #[cold]
    fn sleep(&mut self) {
        self.sleeps += 1;
        self.beat();
        self.publish_totals();
        fence(Ordering::SeqCst); // meets the fence in `Commands::send`
        if self.wake.pending.load(Ordering::Relaxed) {
            return;
        }
        self.heat.set_hot(false);
        self.collect_doorbells(EpollTimeout::from(self.due_within_ms(SLEEP_NS_MAX / 1_000_000) as u16));
        self.heat.set_hot(!self.hot.is_empty());
        self.now_ns = wall_clock_ns();
        self.tell_time_when_due();
        // A reader that makes room rings no doorbell; it hears of its gap within one sleep.
        self.retry_gaps();
        self.survey_parked();
        self.end_absent();
        self.step_snapshot();
    }

    /// Takes the lanes whose doorbell rang back into the round.
    fn collect_doorbells(&mut self, timeout: EpollTimeout) {
        let mut events = [EpollEvent::empty(); DOORBELLS_A_LOOK];
        // An interrupted wait is a wait that found nothing.
        let count = self.epoll.wait(&mut events, world::doze(timeout)).unwrap_or(0);
        for event in &events[..count] {
            if event.data() == WAKE {
                let _ = self.wake.eventfd.read();
                continue;
            }
            let Some(row) = self.rows.get(event.data() as usize).map(|row| usize::from(*row)) else { continue };
            let Some(lane) = &mut self.lanes[row] else { continue };
            if u64::from(lane.number) != event.data() {
                continue;
            }
            lane.empty_doorbells += 1;
            if lane.empty_doorbells > EMPTY_DOORBELLS_MAX {
                self.fault(row, LaneStatus::DoorbellFlood);
            } else if lane.parked {
                lane.unpark();
                lane.busy = true;
                self.hot.push(row);
            }
        }
    }
}

/// Marks a row in `notified` whose client's `events_read` lies.
const FAULTED_ROW: u16 = 1 << 15;

fn meta(engine: &Engine, kind: FrameKind, lane: u32, first_slot: u64, schema_hash: u64, time_ns: u64) -> FrameMeta {
    let (first_sequence, output_hash) = (engine.next_sequence(), engine.output_hash());
    FrameMeta { kind, lane, first_sequence, first_slot, schema_hash, output_hash, time_ns, waiting_slots: 0 }
}

/// Wall clock, nanoseconds since 1970.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    world::wall_clock_ns()
}
