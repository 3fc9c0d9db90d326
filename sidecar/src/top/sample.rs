//! What the board said at the last look, and what happened since the one before: rates, and the times of that span alone.

use std::collections::{HashMap, VecDeque};

use ringlane_layout::board::histogram::Times;
use ringlane_layout::board::{CONTROL, JOURNAL, KERNEL, LANE, POOL, SEQUENCER, Stage, control, header, journal, kernel, lane, pool};

use crate::board::{BoardReader, Row, text_of};
use crate::sequencer::wall_clock_ns;
use crate::status::health;

/// Looks that a sparkline shows, at most.
const RATES_MAX: usize = 512;

/// By what lanes are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Answers a second.
    Load,
    /// Slots in flight.
    InFlight,
    /// Slots that the client holds.
    Held,
    /// How long it has held them.
    HeldFor,
    /// Lane number.
    Lane,
}

impl Order {
    /// The one that the next key press chooses.
    pub const fn next(self) -> Self {
        match self {
            Self::Load => Self::InFlight,
            Self::InFlight => Self::Held,
            Self::Held => Self::HeldFor,
            Self::HeldFor => Self::Lane,
            Self::Lane => Self::Load,
        }
    }

    /// Name on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::InFlight => "in flight",
            Self::Held => "held",
            Self::HeldFor => "held for",
            Self::Lane => "lane",
        }
    }
}

/// One lane as it is shown.
#[derive(Debug, Clone)]
pub struct LaneLine {
    /// Lane number.
    pub number: u64,
    /// Process id of the owner.
    pub pid: u64,
    /// User id of the owner.
    pub uid: u64,
    /// Client's name.
    pub name: String,
    /// Kernel's name.
    pub kernel: String,
    /// Slots.
    pub depth: u64,
    /// Answers a second since the last look.
    pub rate: f64,
    /// Slots that wait for their answer.
    pub in_flight: u64,
    /// How long the oldest of them has waited, nanoseconds.
    pub waiting_ns: u64,
    /// Answered slots that the client has not given back.
    pub held: u64,
    /// For how long it has given none back, nanoseconds.
    pub held_ns: u64,
    /// Events that were dropped.
    pub dropped: u64,
}

/// One pool of threads as it is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolLine {
    /// Pool's name.
    pub name: String,
    /// Its threads.
    pub threads: u64,
    /// Share of the threads' time since the last look that they spent with jobs, 0 to 1.
    pub busy: f64,
    /// Jobs that run.
    pub running: u64,
    /// Jobs that wait for a thread.
    pub queued: u64,
    /// Jobs done a second since the last look.
    pub rate: f64,
}

impl PoolLine {
    /// What a pool's row says now, `before` being what it said `seconds` ago; none: this is the first look.
    fn of(now: &Row, before: Option<&Row>, seconds: f64) -> Self {
        let since = |word: usize| before.map_or(0, |before| now[word].saturating_sub(before[word])) as f64;
        let bytes: &[u8] = bytemuck::cast_slice(now);
        Self {
            name: text_of(&bytes[pool::NAME * 8..(pool::NAME + 2) * 8]),
            threads: now[pool::THREADS],
            busy: (since(pool::BUSY_NS) / 1e9 / seconds / now[pool::THREADS].max(1) as f64).min(1.0),
            running: now[pool::RUNNING],
            queued: now[pool::QUEUED],
            rate: since(pool::JOBS) / seconds,
        }
    }
}

/// A stage's name, its times, and whether they are of the span since the last look.
pub type StageLine = (&'static str, Times, bool);

/// What was seen, the last look and the span before it.
pub struct History {
    /// Health in a word.
    pub health: &'static str,
    /// Address, version and pid.
    pub title: String,
    /// How long the sidecar runs, nanoseconds.
    pub uptime_ns: u64,
    /// The totals' rows at the last look.
    pub totals: Row,
    /// The journal's row.
    pub journal: Row,
    /// Connected clients.
    pub clients: u64,
    /// Answers a second, look by look, the newest last.
    pub rates: VecDeque<u64>,
    /// Journal bytes a second.
    pub bytes_rate: f64,
    /// Lanes, unsorted.
    pub lanes: Vec<LaneLine>,
    /// Times of each stage since the last look; those since start while nothing was timed.
    pub stages: Vec<StageLine>,
    /// The pools.
    pub pools: Vec<PoolLine>,
    pool_rows: Vec<Row>,
    looked_ns: u64,
    requests: u64,
    completed: HashMap<u64, u64>,
    times: Vec<Times>,
}

impl History {
    /// A first look.
    pub fn new(board: &BoardReader) -> Self {
        let title = format!("{}  pid {}  {}", board.text(header::ADDRESS, 14), board.word(header::PID), board.text(header::VERSION, 3));
        let mut history = Self {
            health: "",
            title,
            uptime_ns: 0,
            totals: [0; _],
            journal: [0; _],
            clients: 0,
            rates: VecDeque::new(),
            bytes_rate: 0.0,
            lanes: Vec::new(),
            stages: Vec::new(),
            pools: Vec::new(),
            pool_rows: Vec::new(),
            looked_ns: 0,
            requests: 0,
            completed: HashMap::new(),
            times: Stage::ALL.map(|stage| board.times(stage)).into(),
        };
        history.look(board);
        history
    }

    /// Whether the sidecar still ran at the last look.
    pub fn is_alive(&self) -> bool {
        self.health != "dead"
    }

    /// Looks again.
    pub fn look(&mut self, board: &BoardReader) {
        let now_ns = wall_clock_ns();
        let is_first = self.looked_ns == 0;
        let seconds = (now_ns.saturating_sub(self.looked_ns).max(1)) as f64 / 1e9;
        self.health = health(board, now_ns);
        self.uptime_ns = now_ns.saturating_sub(board.word(header::STARTED_NS));
        self.clients = board.row(&CONTROL, 0).map_or(0, |row| row[control::CLIENTS]);
        self.totals = board.row(&SEQUENCER, 0).unwrap_or(self.totals);
        let appended = self.journal[journal::APPENDED_BYTES];
        self.journal = board.row(&JOURNAL, 0).unwrap_or(self.journal);
        self.bytes_rate = if is_first { 0.0 } else { self.journal[journal::APPENDED_BYTES].saturating_sub(appended) as f64 / seconds };
        let requests: u64 = board.rows(&KERNEL).map(|row| row[kernel::REQUESTS]).sum();
        if !is_first {
            self.rates.push_back((requests.saturating_sub(self.requests) as f64 / seconds) as u64);
            self.rates.drain(..self.rates.len().saturating_sub(RATES_MAX));
        }
        self.requests = requests;
        self.look_at_lanes(board, now_ns, (!is_first).then_some(seconds));
        let pools: Vec<Row> = board.rows(&POOL).collect();
        self.pools = pools.iter().enumerate().map(|(index, now)| PoolLine::of(now, self.pool_rows.get(index), seconds)).collect();
        self.pool_rows = pools;
        self.look_at_stages(board);
        self.looked_ns = now_ns;
    }

    fn look_at_lanes(&mut self, board: &BoardReader, now_ns: u64, seconds: Option<f64>) {
        let before = std::mem::take(&mut self.completed);
        self.lanes.clear();
        for row in board.rows(&LANE) {
            let bytes: &[u8] = bytemuck::cast_slice(&row);
            let text = |word: usize, words: usize| text_of(&bytes[word * 8..(word + words) * 8]);
            let (number, completed) = (row[lane::LANE], row[lane::COMPLETED]);
            let done = completed.saturating_sub(before.get(&number).copied().unwrap_or(completed));
            let in_flight = row[lane::SUBMITTED].saturating_sub(completed);
            let held = completed.saturating_sub(row[lane::RELEASED]);
            let age_ns = |count: u64, word: usize| if count > 0 { now_ns.saturating_sub(row[word]) } else { 0 };
            self.completed.insert(number, completed);
            self.lanes.push(LaneLine {
                number,
                pid: row[lane::PID],
                uid: row[lane::UID],
                name: text(lane::NAME, 8),
                kernel: text(lane::KERNEL, 2),
                depth: row[lane::DEPTH],
                rate: seconds.map_or(0.0, |seconds| done as f64 / seconds),
                in_flight,
                waiting_ns: age_ns(in_flight, lane::WAITING_SINCE_NS),
                held,
                held_ns: age_ns(held, lane::HELD_SINCE_NS),
                dropped: row[lane::EVENTS_DROPPED],
            });
        }
    }

    fn look_at_stages(&mut self, board: &BoardReader) {
        let now = Stage::ALL.map(|stage| board.times(stage));
        self.stages = Stage::ALL
            .iter()
            .zip(now.iter().zip(&self.times))
            .map(|(stage, (now, before))| {
                let span = now.since(before);
                let is_span = span.count() > 0;
                (stage.name(), if is_span { span } else { now.clone() }, is_span)
            })
            .collect();
        self.times = now.into();
    }

    /// Lanes that match the filter (in name, kernel, number, pid or uid), in this order.
    pub fn sorted(&self, order: Order, filter: &str) -> Vec<&LaneLine> {
        let matches = |lane: &&LaneLine| {
            let numbers = [lane.number, lane.pid, lane.uid];
            filter.is_empty()
                || lane.name.contains(filter)
                || lane.kernel.contains(filter)
                || numbers.iter().any(|number| number.to_string() == filter)
        };
        let mut lanes: Vec<_> = self.lanes.iter().filter(matches).collect();
        lanes.sort_by(|a, b| {
            let by = match order {
                Order::Load => b.rate.total_cmp(&a.rate),
                Order::InFlight => b.in_flight.cmp(&a.in_flight),
                Order::Held => b.held.cmp(&a.held),
                Order::HeldFor => b.held_ns.cmp(&a.held_ns),
                Order::Lane => std::cmp::Ordering::Equal,
            };
            by.then(a.number.cmp(&b.number))
        });
        lanes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_as_busy_as_its_threads_were_since_the_last_look() {
        let row = |busy_ns, jobs| {
            let mut row: Row = [0; _];
            (row[pool::THREADS], row[pool::BUSY_NS], row[pool::JOBS], row[pool::QUEUED]) = (2, busy_ns, jobs, 3);
            row
        };
        let first = PoolLine::of(&row(5_000_000_000, 70), None, 1.0);
        assert_eq!((first.busy, first.rate, first.threads, first.queued), (0.0, 0.0, 2, 3));
        let line = PoolLine::of(&row(7_000_000_000, 90), Some(&row(5_000_000_000, 70)), 2.0);
        assert_eq!((line.busy, line.rate), (0.5, 10.0));
        assert_eq!(PoolLine::of(&row(90_000_000_000, 0), Some(&row(0, 0)), 1.0).busy, 1.0, "never more than all");
    }
}
