//! The sequencer: the one thread that takes slots from lanes, gives each its global sequence number, journals it, runs the
//! kernel and publishes results. It decides *when*; what a record means is decided by kernels, what is believed of a peer by lanes.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::channel::{Receiver, Sender, TryRecvError, unbounded};
use crossbeam::utils::CachePadded;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use ringlane_layout::board::{header, row};
use ringlane_layout::limits::{BATCH_SLOTS_MAX, EMPTY_DOORBELLS_MAX, LANES_MAX, QUANTUM_WORK, SLEEP_NS_MAX};
use ringlane_layout::orders::OrderRequest;
use ringlane_layout::record::Record;
use ringlane_layout::region::LaneStatus;

use crate::board::Board;
use crate::config::SequencerConfig;
use crate::engine::Engine;
use crate::journal::{FrameKind, FrameMeta, LaneClose, LaneOpen, Writer};
use crate::kernels::orders::Outgoing;
use crate::lanes::Lane;
use ringlane_layout::record::RecordBytes;

/// Epoll data of the sequencer's own wake-up; lane numbers stay below.
const WAKE: u64 = u64::MAX;
/// Work after which doorbells and the clock are looked at, orders.
const LOOK_AROUND_WORK: u64 = 256;
/// What one turn of a lane costs beside its orders, orders.
const TURN_WORK: u64 = 2;

/// What the control thread asks of the sequencer between turns.
pub enum Command {
    /// Take this lane in; its opening is journaled. The answer comes when it is served.
    Open(Box<Lane>, LaneOpen, Sender<Result<(), String>>),
    /// End this lane after a last look at what it submitted.
    Close(u32, LaneStatus, Option<Sender<bool>>),
    /// Answer a question about the state, at the sequence number that is given with it.
    Query(Box<dyn FnOnce(&Engine) + Send>),
    /// Number of connected clients, for the board.
    Clients(u64),
    /// Complete what was submitted, tell every client, and return.
    Stop,
}

/// The control thread's end of the command queue.
#[derive(Clone)]
pub struct Commands {
    queue: Sender<Command>,
    wake: Arc<Wake>,
}

struct Wake {
    pending: CachePadded<AtomicBool>,
    eventfd: EventFd,
}

impl Commands {
    /// Queues a command and wakes the sequencer. False: it has ended.
    #[must_use]
    pub fn send(&self, command: Command) -> bool {
        let sent = self.queue.send(command).is_ok();
        self.wake.pending.store(true, Ordering::Release);
        fence(Ordering::SeqCst); // meets the fence in `Sequencer::sleep`
        // The counter is never near its end: the sequencer reads it at every wake-up.
        let _ = self.wake.eventfd.write(1);
        sent
    }
}

/// Everything the sequencer owns.
pub struct Sequencer {
    engine: Engine,
    journal: Option<Writer>,
    board: Board,
    config: SequencerConfig,
    /// Lanes by board row.
    lanes: Vec<Option<Box<Lane>>>,
    /// Row of each lane number.
    rows: Vec<u16>,
    /// Rows of the lanes that are polled.
    hot: Vec<usize>,
    epoll: Epoll,
    commands: Receiver<Command>,
    wake: Arc<Wake>,
    /// Private copies of requests when nothing is journaled.
    scratch: Box<[RecordBytes]>,
    /// Rows whose events must be published at the end of the batch.
    notified: Vec<u16>,
    /// Wall clock, read now and then, nanoseconds since 1970.
    now_ns: u64,
    faults: u64,
    sleeps: u64,
    journal_failed: bool,
    stopping: bool,
}

impl Sequencer {
    /// A sequencer over an engine that recovery has brought up to date.
    pub fn new(engine: Engine, journal: Option<Writer>, board: Board, config: SequencerConfig) -> Result<(Self, Commands), String> {
        let say = |error: nix::errno::Errno| format!("cannot prepare the sequencer: {error}");
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(say)?;
        let eventfd = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(say)?;
        epoll.add(&eventfd, EpollEvent::new(EpollFlags::EPOLLIN, WAKE)).map_err(say)?;
        let wake = Arc::new(Wake { pending: CachePadded::new(AtomicBool::new(false)), eventfd });
        let (queue, commands) = unbounded();
        let sequencer = Self {
            engine,
            journal,
            board,
            config,
            lanes: Vec::new(),
            rows: Vec::new(),
            hot: Vec::with_capacity(LANES_MAX),
            epoll,
            commands,
            wake: Arc::clone(&wake),
            scratch: vec![bytemuck::Zeroable::zeroed(); BATCH_SLOTS_MAX].into(),
            notified: Vec::with_capacity(LANES_MAX),
            now_ns: wall_clock_ns(),
            faults: 0,
            sleeps: 0,
            journal_failed: false,
            stopping: false,
        };
        Ok((sequencer, Commands { queue, wake }))
    }

    /// Runs until it is told to stop; gives the engine back.
    pub fn run(mut self) -> Engine {
        if let Some(cpu) = self.config.cpu {
            pin(cpu);
        }
        let mut since_look = 0;
        let mut idle = Idle::default();
        while !self.stopping {
            if self.wake.pending.load(Ordering::Relaxed) {
                self.obey();
            }
            let mut work = 0;
            let mut index = 0;
            while index < self.hot.len() {
                let row = self.hot[index];
                work += self.serve(row);
                // `serve` removes a faulted lane from `hot`.
                index += usize::from(self.hot.get(index) == Some(&row));
            }
            if work > 0 {
                since_look += work;
                idle.end();
            } else if idle.turn(Duration::from_micros(self.config.spin_us)) {
                since_look = LOOK_AROUND_WORK;
            }
            if since_look >= LOOK_AROUND_WORK {
                since_look = 0;
                self.look_around();
            }
            if self.hot.is_empty() && !self.stopping {
                self.sleep();
                idle.end();
            }
        }
        if let Some(journal) = self.journal {
            journal.close();
        }
        self.engine
    }

    /// Serves one lane within its share: deficit round-robin by work. Says how much was done.
    #[inline]
    fn serve(&mut self, row: usize) -> u64 {
        let alone = self.hot.len() == 1;
        let Some(lane) = &mut self.lanes[row] else { return 0 };
        let waiting = match lane.look() {
            Ok(0) => {
                lane.deficit = 0;
                return 0;
            }
            Ok(waiting) => waiting,
            Err(status) => {
                self.fault(row, status);
                return TURN_WORK;
            }
        };
        lane.busy = true;
        lane.empty_doorbells = 0;
        lane.deficit += QUANTUM_WORK;
        if !alone && lane.deficit <= 0 {
            return 1;
        }
        let share = if alone { BATCH_SLOTS_MAX as u64 } else { lane.deficit as u64 };
        let count = waiting.min(share).min(BATCH_SLOTS_MAX as u64) as usize;
        let work = self.batch(row, count);
        if let Some(lane) = &mut self.lanes[row] {
            lane.deficit = if alone || waiting == count as u64 { 0 } else { lane.deficit - work as i64 };
        }
        work + TURN_WORK
    }

    /// Journals, computes and publishes `count` waiting slots of a lane. Says how much work it was.
    fn batch(&mut self, row: usize, count: usize) -> u64 {
        let Some(lane) = &mut self.lanes[row] else { return 0 };
        let meta = meta(&self.engine, FrameKind::Orders, lane.number, lane.next_slot(), OrderRequest::SCHEMA_HASH, self.now_ns);
        let requests: &[RecordBytes] = match &mut self.journal {
            Some(journal) => match journal.append(&meta, count, |records| lane.copy_requests(records)) {
                Ok(records) => records,
                Err(words) => {
                    self.journal_fails(&words);
                    return 0;
                }
            },
            None => {
                lane.copy_requests(&mut self.scratch[..count]);
                &self.scratch[..count]
            }
        };
        let output = self.engine.process_orders(lane.number, requests);
        lane.write_results(output.results);
        let work = output.work;
        if !output.events.is_empty() {
            send_events(&mut self.lanes, &self.rows, &mut self.notified, output.events);
            self.publish_events();
        }
        if let Some(lane) = &mut self.lanes[row] {
            lane.complete();
            publish_row(&self.board, row, lane);
        }
        work
    }

    /// Makes the events of a batch visible; a lane whose `events_read` lies is faulted.
    fn publish_events(&mut self) {
        while let Some(mark) = self.notified.pop() {
            let row = usize::from(mark & !FAULTED_ROW);
            match &mut self.lanes[row] {
                Some(lane) if mark & FAULTED_ROW == 0 => {
                    lane.publish_events();
                    // Its owner may be quiet: nothing else would tell the board of events that it drops.
                    publish_row(&self.board, row, lane);
                }
                Some(_) => self.fault(row, LaneStatus::EventsReadOutOfRange),
                None => {}
            }
        }
    }

    /// Looks at the clock, the doorbells and the lanes that have become quiet.
    #[cold]
    fn look_around(&mut self) {
        self.now_ns = wall_clock_ns();
        self.collect_doorbells(EpollTimeout::ZERO);
        let park_after_ns = self.config.park_after_us * 1000;
        let mut index = 0;
        while index < self.hot.len() {
            let row = self.hot[index];
            let quiet = self.lanes[row].as_mut().is_none_or(|lane| {
                if std::mem::take(&mut lane.busy) {
                    lane.busy_ns = self.now_ns;
                }
                self.now_ns.saturating_sub(lane.busy_ns) > park_after_ns && lane.park()
            });
            if quiet {
                self.hot.swap_remove(index);
            } else {
                index += 1;
            }
        }
        self.publish_header();
        self.retry_gaps();
    }

    fn retry_gaps(&mut self) {
        for row in 0..self.lanes.len() {
            if let Some(Err(status)) = self.lanes[row].as_mut().map(|lane| lane.retry_gap()) {
                self.fault(row, status);
            }
        }
    }

    /// Sleeps until a doorbell or a command; every lane is parked. Bounded, and everything is looked at again after.
    #[cold]
    fn sleep(&mut self) {
        self.sleeps += 1;
        self.publish_header();
        fence(Ordering::SeqCst); // meets the fence in `Commands::send`
        if self.wake.pending.load(Ordering::Relaxed) {
            return;
        }
        self.collect_doorbells(EpollTimeout::from((SLEEP_NS_MAX / 1_000_000) as u16));
        self.now_ns = wall_clock_ns();
        // A reader that makes room rings no doorbell; it hears of its gap within one sleep.
        self.retry_gaps();
    }

    /// Takes the lanes whose doorbell rang back into the round.
    fn collect_doorbells(&mut self, timeout: EpollTimeout) {
        let mut events = [EpollEvent::empty(); 64];
        // An interrupted wait is a wait that found nothing.
        let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
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

    /// Carries out what the control thread asks for.
    #[cold]
    fn obey(&mut self) {
        self.wake.pending.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(lane, open, answer)) => {
                    let _ = answer.send(self.open(lane, &open));
                }
                Ok(Command::Close(number, status, answer)) => {
                    let row = self.row_of(number);
                    if let Some(row) = row {
                        self.close(row, status);
                    }
                    if let Some(answer) = answer {
                        let _ = answer.send(row.is_some());
                    }
                }
                Ok(Command::Query(question)) => question(&self.engine),
                Ok(Command::Clients(count)) => self.board.set(header::CLIENTS, count),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return self.stop(),
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn row_of(&self, number: u32) -> Option<usize> {
        let row = usize::from(*self.rows.get(number as usize)?);
        (self.lanes.get(row)?.as_ref()?.number == number).then_some(row)
    }

    fn open(&mut self, mut lane: Box<Lane>, open: &LaneOpen) -> Result<(), String> {
        if self.journal_failed {
            return Err("the sidecar cannot write its journal and takes no new lanes".into());
        }
        let row = match self.lanes.iter().position(Option::is_none) {
            Some(row) => row,
            None if self.lanes.len() < LANES_MAX => {
                self.lanes.push(None);
                self.lanes.len() - 1
            }
            None => return Err(format!("all {LANES_MAX} lanes of the sidecar are open")),
        };
        let number = lane.number as usize;
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, u64::from(lane.number));
        self.epoll.add(lane.doorbell().as_fd(), event).map_err(|error| format!("cannot watch the lane's doorbell: {error}"))?;
        // Last of what can fail: a journaled opening must be applied, or a replay would count one record more.
        let meta = meta(&self.engine, FrameKind::LaneOpen, lane.number, 0, LaneOpen::SCHEMA_HASH, self.now_ns);
        if let Some(journal) = &mut self.journal
            && let Err(words) = journal.append(&meta, 1, |records| records[0] = bytemuck::must_cast(*open))
        {
            let _ = self.epoll.delete(lane.doorbell().as_fd());
            return Err(words);
        }
        self.engine.open_lane(open);
        if self.rows.len() <= number {
            self.rows.resize(number + 1, u16::MAX);
        }
        self.rows[number] = row as u16;
        lane.busy = true;
        self.board.write_row_texts(row, &lane.owner.name, "orders");
        publish_row(&self.board, row, &lane);
        self.lanes[row] = Some(lane);
        self.hot.push(row);
        self.publish_header();
        Ok(())
    }

    /// Ends a lane: what it submitted is completed, its end is journaled, and its owner is told.
    fn close(&mut self, row: usize, status: LaneStatus) {
        // One last snapshot, at most `depth` slots: a client that goes on submitting cannot hold the sequencer here.
        let mut waiting = match self.lanes[row].as_mut().map(|lane| lane.look()) {
            Some(Ok(waiting)) => waiting,
            Some(Err(lie)) => return self.fault(row, lie),
            None => return,
        };
        while waiting > 0 && !self.journal_failed {
            let count = waiting.min(BATCH_SLOTS_MAX as u64);
            self.batch(row, count as usize);
            waiting -= count;
        }
        self.end(row, status);
    }

    /// A client broke a rule: its lane ends without another look at what it wrote.
    #[cold]
    fn fault(&mut self, row: usize, status: LaneStatus) {
        if let Some(lane) = &self.lanes[row] {
            let (number, owner) = (lane.number, &lane.owner);
            tracing::warn!(lane = number, pid = owner.pid, uid = owner.uid, ?status, "lane closed: its client broke the protocol");
        }
        self.faults += 1;
        self.end(row, status);
    }

    fn end(&mut self, row: usize, status: LaneStatus) {
        let Some(mut lane) = self.lanes[row].take() else { return };
        // Before the descriptor closes: a duplicate that the client keeps would leave a ghost in the set.
        let _ = self.epoll.delete(lane.doorbell().as_fd());
        self.hot.retain(|hot| *hot != row);
        self.board.write_row(row, &[(row::LANE, 0)]);
        let close = LaneClose {
            lane: lane.number,
            cancel_orders: u32::from(lane.cancel_on_disconnect && status != LaneStatus::ShuttingDown),
            status: status as u64,
            ..LaneClose::default()
        };
        self.journal_close(&close);
        self.publish_header();
        // Last: whoever sees the status finds the lane gone from board and books, and its end in the journal.
        lane.close(status);
    }

    /// Journals and applies the end of a lane, and tells the owners of orders that were cancelled by it.
    fn journal_close(&mut self, close: &LaneClose) {
        let meta = meta(&self.engine, FrameKind::LaneClose, close.lane, 0, LaneClose::SCHEMA_HASH, self.now_ns);
        if let Some(journal) = &mut self.journal
            && let Err(words) = journal.append(&meta, 1, |records| records[0] = bytemuck::must_cast(*close))
        {
            return self.journal_fails(&words);
        }
        let output = self.engine.close_lane(close);
        send_events(&mut self.lanes, &self.rows, &mut self.notified, output.events);
        self.publish_events();
    }

    /// The journal cannot take the next frame: nothing more is acknowledged, and every client is told why.
    #[cold]
    fn journal_fails(&mut self, words: &str) {
        if std::mem::replace(&mut self.journal_failed, true) {
            return;
        }
        tracing::error!("intake stops: {words}");
        self.board.set(header::HEALTH, 2);
        for row in 0..self.lanes.len() {
            if let Some(mut lane) = self.lanes[row].take() {
                let _ = self.epoll.delete(lane.doorbell().as_fd());
                lane.close(LaneStatus::JournalFailed);
                self.board.write_row(row, &[(row::LANE, 0)]);
            }
        }
        self.hot.clear();
    }

    /// Completes what was submitted and tells every client.
    fn stop(&mut self) {
        self.board.set(header::HEALTH, 3);
        for row in 0..self.lanes.len() {
            self.close(row, LaneStatus::ShuttingDown);
        }
        self.stopping = true;
    }

    fn publish_header(&self) {
        let counters = self.engine.orders.counters();
        let words = [
            (header::SEQUENCE, self.engine.next_sequence() - 1),
            (header::JOURNAL_BYTES, self.journal.as_ref().map_or(0, Writer::bytes)),
            (header::ACCEPTED, counters.accepted),
            (header::REJECTED, counters.rejected),
            (header::TRADES, counters.trades),
            (header::RESTING, counters.resting),
            (header::LANES, self.lanes.iter().flatten().count() as u64),
            (header::FAULTS, self.faults),
            (header::HEARTBEAT_NS, self.now_ns),
            (header::SLEEPS, self.sleeps),
        ];
        words.into_iter().for_each(|(word, value)| self.board.set(word, value));
    }
}

/// What the sequencer does while nothing waits: spins at first, then gives its core away at each turn.
#[derive(Default)]
struct Idle {
    turns: u32,
    since: Option<Instant>,
    looked: Option<Instant>,
}

impl Idle {
    /// Turns between two looks at the clock: a look costs as much as a poll of several lanes.
    const CLOCK_TURNS: u32 = 32;
    /// Time between two looks around, while idle.
    const LOOK: Duration = Duration::from_micros(20);

    /// One turn without work. True: it is time to look around.
    #[inline]
    fn turn(&mut self, spin: Duration) -> bool {
        std::hint::spin_loop();
        self.turns += 1;
        if !self.turns.is_multiple_of(Self::CLOCK_TURNS) {
            return false;
        }
        let now = Instant::now();
        if now - *self.since.get_or_insert(now) >= spin {
            self.turns -= 1; // from here on the clock and the yield come at every turn
            std::thread::yield_now();
        }
        let due = now - *self.looked.get_or_insert(now) >= Self::LOOK;
        if due {
            self.looked = Some(now);
        }
        due
    }

    /// There was work.
    #[inline]
    fn end(&mut self) {
        if self.turns != 0 {
            *self = Self::default();
        }
    }
}

/// Marks a row in `notified` whose client's `events_read` lies.
const FAULTED_ROW: u16 = 1 << 15;

/// Puts events into the rings of their lanes; a lane that is gone has no ring, and its events end here.
fn send_events(lanes: &mut [Option<Box<Lane>>], rows: &[u16], notified: &mut Vec<u16>, events: &[Outgoing]) {
    for outgoing in events {
        let Some(row) = rows.get(outgoing.lane as usize).copied() else { continue };
        let Some(Some(lane)) = lanes.get_mut(usize::from(row)) else { continue };
        if lane.number != outgoing.lane {
            continue;
        }
        match lane.push_event(outgoing.event) {
            Ok(_) => {
                if !notified.contains(&row) {
                    notified.push(row);
                }
            }
            Err(_) => notified.push(row | FAULTED_ROW),
        }
    }
}

fn publish_row(board: &Board, row: usize, lane: &Lane) {
    let (submitted, completed, released) = lane.cursors();
    let (events, dropped) = lane.event_counts();
    board.write_row(
        row,
        &[
            (row::LANE, u64::from(lane.number)),
            (row::PID, u64::from(lane.owner.pid)),
            (row::UID, u64::from(lane.owner.uid)),
            (row::DEPTH, lane.geometry.depth_slots),
            (row::BYTES, lane.bytes() as u64),
            (row::SUBMITTED, submitted),
            (row::COMPLETED, completed),
            (row::RELEASED, released),
            (row::EVENTS, events),
            (row::EVENTS_DROPPED, dropped),
            (row::PARKS, lane.parks),
            (row::NOTIFIES, lane.notifies),
            (row::OPENED_NS, lane.opened_ns),
        ],
    );
}

fn meta(engine: &Engine, kind: FrameKind, lane: u32, first_slot: u64, schema_hash: u64, time_ns: u64) -> FrameMeta {
    FrameMeta { kind, lane, first_sequence: engine.next_sequence(), first_slot, schema_hash, output_hash: engine.output_hash(), time_ns }
}

/// Wall clock, nanoseconds since 1970.
#[must_use]
pub fn wall_clock_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

/// Pins the calling thread to a core; a failure is told and lived with.
fn pin(cpu: usize) {
    let mut set = nix::sched::CpuSet::new();
    let pinned = set.set(cpu).and_then(|()| nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set));
    if let Err(error) = pinned {
        tracing::warn!(cpu, %error, "the sequencer could not be pinned");
    }
}
