//! What the control thread asks of the sequencer between turns, and how it is carried out: lanes open and end here.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

use crossbeam::channel::{Sender, TryRecvError};
use crossbeam::utils::CachePadded;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::eventfd::EventFd;
use ringlane_layout::board::{LANE, header, lane};
use ringlane_layout::record::Record;
use ringlane_layout::region::LaneStatus;

use super::absent::Return;
use super::administration::Administration;
use super::durability::After;
use super::keeping::JobPiece;
use super::turns::Closing;
use super::{Sequencer, meta};
use crate::engine::Engine;
use crate::journal::{FrameKind, Full, LaneClose, LaneOpen};
use crate::lanes::Lane;
use crate::market::Market;

/// What the control thread asks of the sequencer between turns.
pub enum Command {
    /// Take this lane in; its opening is journaled. The answer comes when it is served.
    Open(Box<Lane>, LaneOpen, Sender<Result<(), String>>),
    /// Look for the lane of a client that comes back.
    Find(Return, Sender<Result<LaneOpen, String>>),
    /// Give it these fresh regions; the answer is the number of slots that are journaled.
    Attach(Box<Lane>, Return, Sender<Result<u64, String>>),
    /// End this lane after a last look at what it submitted.
    Close(u32, LaneStatus, Option<Sender<bool>>),
    /// Answer a question about the state, at the sequence number that is given with it.
    Query(Box<dyn FnOnce(&Engine) + Send>),
    /// As `Query`, of the market's broadcast too; what is watched may change.
    Market(Box<MarketQuestion>),
    /// Make a snapshot; the answer is the sequence number that it has at least, when it is written.
    Snapshot(Sender<Option<u64>>),
    /// Do what an administrator asks.
    Administer(Administration, Sender<Result<u64, String>>),
    /// Journal a piece of what a recorded lane of another kernel was asked or answered; the answer is its last sequence number.
    Keep(JobPiece, Sender<Result<u64, String>>),
    /// Complete what was submitted, tell every client, and return.
    Stop,
}

/// What may be asked of the market's broadcast.
pub type MarketQuestion = dyn FnOnce(&mut Engine, &mut Market) + Send;

/// The control thread's end of the command queue.
#[derive(Clone)]
pub struct Commands {
    pub(super) queue: Sender<Command>,
    pub(super) wake: Arc<Wake>,
}

/// Tells a spinning sequencer by its flag and a sleeping one by its eventfd.
pub(super) struct Wake {
    pub(super) pending: CachePadded<AtomicBool>,
    pub(super) eventfd: EventFd,
    /// Counts the times at which the sequencer looked around or went to sleep; only it writes.
    pub(super) pulse: CachePadded<AtomicU64>,
}

impl Commands {
    /// Queues a command and wakes the sequencer. False: it has ended.
    #[must_use]
    pub fn send(&self, command: Command) -> bool {
        let sent = self.queue.send(command).is_ok();
        self.wake.ring();
        sent
    }

    /// Moves at least once within each of the sequencer's bounded sleeps, and while it works; a pulse that stands is a stuck one.
    #[must_use]
    pub fn pulse(&self) -> u64 {
        self.wake.pulse.load(Ordering::Relaxed)
    }
}

impl Wake {
    /// Makes the sequencer look around soon.
    pub(super) fn ring(&self) {
        self.pending.store(true, Ordering::Release);
        fence(Ordering::SeqCst); // meets the fence in `Sequencer::sleep`
        // The counter is never near its end: the sequencer reads it at every wake-up.
        let _ = self.eventfd.write(1);
    }
}

impl Sequencer {
    /// Carries out what the control thread asks for.
    #[cold]
    pub(super) fn obey(&mut self) {
        self.wake.pending.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(lane, open, answer)) => {
                    let opened = self.open(lane, &open);
                    self.answer_decided(After::Opened(answer, opened));
                }
                Ok(Command::Find(back, answer)) => {
                    let _ = answer.send(self.find_absent(&back));
                }
                Ok(Command::Attach(lane, back, answer)) => {
                    // What others did meanwhile may stand in its regions before it is durable: they are shown after.
                    let attached = self.attach(lane, &back);
                    self.answer_decided(After::Numbered(answer, attached));
                }
                Ok(Command::Close(number, status, answer)) => match self.row_of(number) {
                    Some(row) => self.close(row, Closing { left: 0, status, answer }),
                    None => drop(answer.map(|answer| answer.send(false))),
                },
                Ok(Command::Query(question)) => {
                    // What is asked for may be told only when it is durable. Without an answer the question fails.
                    if self.settle_all() {
                        question(&self.engine);
                    }
                    // One question a turn of the round: lanes are looked at before the next.
                    return self.wake.pending.store(true, Ordering::Relaxed);
                }
                Ok(Command::Market(question)) => {
                    if self.settle_all() {
                        question(&mut self.engine, &mut self.market);
                    }
                    return self.wake.pending.store(true, Ordering::Relaxed);
                }
                Ok(Command::Snapshot(answer)) => {
                    let _ = answer.send(self.want_snapshot());
                }
                Ok(Command::Administer(administration, answer)) => {
                    let done = self.administer(administration);
                    self.answer_decided(After::Numbered(answer, done));
                }
                Ok(Command::Keep(piece, answer)) => {
                    let (kept, waits) = (self.keep(&piece), piece.is_told_when_durable);
                    if waits { self.answer_after(After::Numbered(answer, kept)) } else { drop(answer.send(kept)) }
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return self.stop(),
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    pub(super) fn row_of(&self, number: u32) -> Option<usize> {
        let row = usize::from(*self.rows.get(number as usize)?);
        (self.lanes.get(row)?.as_ref()?.number == number).then_some(row)
    }

    /// Lets a lane's doorbell wake the sequencer.
    pub(super) fn hear_doorbell(&self, lane: &Lane) -> Result<(), String> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, u64::from(lane.number));
        self.epoll.add(lane.doorbell().as_fd(), event).map_err(|error| format!("cannot watch the lane's doorbell: {error}"))
    }

    fn open(&mut self, lane: Box<Lane>, open: &LaneOpen) -> Result<(), String> {
        if let Some(words) = self.why_blocked() {
            return Err(words);
        }
        let row = self.free_row()?;
        self.hear_doorbell(&lane)?;
        // Last of what can fail: a journaled opening must be applied, or a replay would count one record more.
        let meta = meta(&self.engine, FrameKind::LaneOpen, lane.number, 0, LaneOpen::SCHEMA_HASH, self.now_ns);
        if let Some(journal) = &mut self.journal
            && journal.append(&meta, 1, |records| records[0] = bytemuck::must_cast(*open)) == Err(Full)
        {
            let _ = self.epoll.delete(lane.doorbell().as_fd());
            self.block();
            let late = || "the journal has no room for the moment; try again".to_owned();
            return Err(self.why_blocked().unwrap_or_else(late));
        }
        crate::crash::point("lane_open.journaled");
        self.engine.open_lane(open);
        self.seat(row, lane);
        Ok(())
    }

    /// Begins a lane's end. What it submitted is completed in its turns; then its end is journaled, and its owner is told.
    pub(super) fn close(&mut self, row: usize, mut closing: Closing) {
        let Some(lane) = &mut self.lanes[row] else { return };
        if self.turns[row].closing.is_some() {
            return;
        }
        // One last snapshot, at most `depth` slots: a client that goes on submitting cannot put its end off.
        match lane.look() {
            Ok(left) => closing.left = left,
            Err(lie) => {
                self.turns[row].closing = Some(closing); // its end answers
                return self.fault(row, lie);
            }
        }
        if lane.parked {
            lane.unpark();
            self.hot.push(row);
        }
        lane.busy = true;
        let (left, status) = (closing.left, closing.status);
        self.turns[row].closing = Some(closing);
        if left == 0 {
            self.end(row, status);
        }
    }

    /// A client broke a rule: its lane ends without another look at what it wrote.
    #[cold]
    pub(super) fn fault(&mut self, row: usize, status: LaneStatus) {
        if let Some(lane) = &self.lanes[row] {
            let (number, owner) = (lane.number, &lane.owner);
            let (pid, uid, name, depth) = (owner.pid, owner.uid, &owner.name, lane.geometry.depth_slots);
            let kernel = "orders";
            tracing::warn!(lane = number, kernel, pid, uid, name, depth, ?status, "lane closed: its client broke the protocol");
            self.note_fault(number, owner.pid, status);
        }
        self.faults += 1;
        self.end(row, status);
    }

    pub(super) fn end(&mut self, row: usize, status: LaneStatus) {
        let Some(lane) = self.lanes[row].take() else { return };
        self.lane_count -= 1;
        self.heat.set_orders(self.lane_count > 0);
        // Before the descriptor closes: a duplicate that the client keeps would leave a ghost in the set.
        let _ = self.epoll.delete(lane.doorbell().as_fd());
        self.hot.retain(|hot| *hot != row);
        self.board.write_row(&LANE, row, &[(lane::LANE, 0)]);
        if status == LaneStatus::ShuttingDown && self.journal.is_some() {
            // It stays open in the journal: its client may come back after the next start.
            self.suspend(&lane);
        } else {
            let close = LaneClose {
                lane: lane.number,
                cancel_orders: u32::from(lane.cancel_on_disconnect && status != LaneStatus::ShuttingDown),
                status: status as u64,
                ..LaneClose::default()
            };
            self.journal_close(&close);
        }
        self.publish_totals();
        // Last: whoever sees the status finds the lane gone from board and books, and its end in the journal.
        let answer = self.turns[row].closing.take().and_then(|closing| closing.answer);
        self.answer_after(After::Ended(lane, status, answer));
    }

    /// Journals and applies the end of a lane, and tells the owners of orders that were cancelled by it.
    pub(super) fn journal_close(&mut self, close: &LaneClose) {
        let meta = meta(&self.engine, FrameKind::LaneClose, close.lane, 0, LaneClose::SCHEMA_HASH, self.now_ns);
        if let Some(journal) = &mut self.journal {
            // Orders leave room for the end of every lane.
            let appended = journal.append(&meta, 1, |records| records[0] = bytemuck::must_cast(*close));
            assert!(appended.is_ok(), "the journal has no room for the end of a lane");
        }
        crate::crash::point("lane_end.journaled");
        self.engine.close_lane(close);
        self.send_events();
        self.publish_market();
        self.publish_events();
    }

    /// Lets every lane end, those that are ending already as they were told; the sequencer returns when the last one has.
    fn stop(&mut self) {
        self.board.set(header::HEALTH, 3);
        for row in 0..self.lanes.len() {
            self.close(row, Closing { left: 0, status: LaneStatus::ShuttingDown, answer: None });
        }
        self.stopping = true;
    }
}
