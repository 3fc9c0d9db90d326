//! Models of the lane protocol: loom tries every interleaving, and every value that the memory model lets a load see, with
//! the real functions of `ring.rs` over small rings. A record is a plain cell here, so reading one too early or writing one
//! too late is a reported race; a lost wake-up is a reported deadlock. Sockets, mappings and records' meaning never enter.
//!
//! Run by `make loom`. Preemptions are bounded (`PREEMPTIONS_MAX`), so that all models end within a minute on one core.
#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::atomic::Ordering;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use ringlane_layout::board::seqlock;
use ringlane_layout::market::MarketWords;
use ringlane_layout::primitive::AtomicU64;
use ringlane_layout::region::LaneStatus;
use ringlane_layout::ring::{self, Answered, ClientWords, EventRoom, Intake, SidecarWords};

/// Switches away from a thread that could go on, in one execution. Three find every planted fault.
const PREEMPTIONS_MAX: usize = 3;
/// Records of a ring: the smallest with which a batch can stand across the wrap.
const CAPACITY: u64 = 2;

/// What both sides map: cursors, and three rings whose records are plain cells.
struct Lane {
    submitted: AtomicU64,
    released: AtomicU64,
    events_read: AtomicU64,
    waiting: AtomicU64,
    events_waiting: AtomicU64,
    completed: AtomicU64,
    asleep: AtomicU64,
    status: AtomicU64,
    events_published: AtomicU64,
    requests: Ring,
    results: Ring,
    events: Ring,
    notify: Signal,
    doorbell: Signal,
}

impl Lane {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        Arc::new(Self {
            submitted: word(),
            released: word(),
            events_read: word(),
            waiting: word(),
            events_waiting: word(),
            completed: word(),
            asleep: word(),
            status: word(),
            events_published: word(),
            requests: Ring::new(),
            results: Ring::new(),
            events: Ring::new(),
            notify: Signal::new(),
            doorbell: Signal::new(),
        })
    }

    fn client(&self) -> ClientWords<'_> {
        ClientWords {
            submitted: &self.submitted,
            released: &self.released,
            events_read: &self.events_read,
            waiting: &self.waiting,
            events_waiting: &self.events_waiting,
        }
    }

    fn sidecar(&self) -> SidecarWords<'_> {
        SidecarWords { completed: &self.completed, asleep: &self.asleep, status: &self.status, events_published: &self.events_published }
    }

    /// The client waits until `completed` reaches `target`, asleep if need be; none when the lane was closed before that.
    fn sleep_for(&self, target: u64) -> Option<u64> {
        while !ring::announce_wait(self.client(), self.sidecar(), target) {
            self.notify.wait();
        }
        let status = ring::status(self.sidecar());
        let completed = ring::completed(self.sidecar());
        (status == 0 || completed >= target).then_some(completed)
    }

    /// The sidecar makes results visible and sends the notification that is due.
    fn complete(&self, answered: &mut Answered, completed: u64) {
        if ring::complete(self.sidecar(), self.client(), answered, completed) {
            self.notify.send();
        }
    }

    /// The client publishes and rings when it must.
    fn publish(&self, submitted: u64) {
        if ring::publish(self.client(), self.sidecar(), submitted) {
            self.doorbell.send();
        }
    }
}

/// A ring of plain records. A record that both sides touch without an order between them fails the model.
struct Ring([UnsafeCell<u64>; CAPACITY as usize]);

// SAFETY: loom's cells report every unordered access, which is what these models are for.
unsafe impl Sync for Ring {}
// SAFETY: as above.
unsafe impl Send for Ring {}

impl Ring {
    fn new() -> Self {
        Self(std::array::from_fn(|_| UnsafeCell::new(0)))
    }

    fn read(&self, index: u64) -> u64 {
        // SAFETY: loom checks that no write is concurrent.
        self.0[(index % CAPACITY) as usize].with(|record| unsafe { *record })
    }

    fn write(&self, index: u64, value: u64) {
        // SAFETY: loom checks that no other access is concurrent.
        self.0[(index % CAPACITY) as usize].with_mut(|record| unsafe { *record = value });
    }
}

/// A notify socket or a doorbell: it keeps one byte until somebody waits for it; more bytes than one are one.
struct Signal {
    pending: Mutex<bool>,
    ready: Condvar,
}

impl Signal {
    fn new() -> Self {
        Self { pending: Mutex::new(false), ready: Condvar::new() }
    }

    fn send(&self) {
        *self.pending.lock().unwrap() = true;
        self.ready.notify_one();
    }

    fn wait(&self) {
        let mut pending = self.pending.lock().unwrap();
        while !*pending {
            pending = self.ready.wait(pending).unwrap();
        }
        *pending = false;
    }
}

/// Runs a client, on this thread, against a sidecar on another one, in every order that is allowed.
fn model(sidecar: fn(&Lane), client: fn(&Arc<Lane>)) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(move || {
        let lane = Lane::new();
        let other = thread::spawn({
            let lane = Arc::clone(&lane);
            move || sidecar(&lane)
        });
        client(&lane);
        other.join().unwrap();
    });
}

/// The sidecar's half: takes, computes and completes until `total` slots are done; `idle` is what it does when nothing waits.
fn serve(lane: &Lane, total: u64, idle: fn(&Lane, &Intake)) {
    let (mut intake, mut answered) = (Intake::new(CAPACITY, 0), Answered::default());
    while intake.taken() < total {
        let waiting = intake.look(lane.client()).expect("this client keeps the rules");
        if waiting == 0 {
            idle(lane, &intake);
            continue;
        }
        for slot in intake.taken()..intake.taken() + waiting {
            let request = lane.requests.read(slot);
            assert_eq!(request, slot + 100, "a request that was published is whole");
            lane.results.write(slot, request * 2);
        }
        intake.take(waiting);
        lane.complete(&mut answered, intake.taken());
    }
}

fn poll(_: &Lane, _: &Intake) {
    thread::yield_now();
}

fn park(lane: &Lane, intake: &Intake) {
    if ring::park(lane.sidecar(), lane.client(), intake.taken()) {
        lane.doorbell.wait();
        ring::unpark(lane.sidecar());
    }
}

fn read_result(lane: &Lane, slot: u64) {
    assert_eq!(lane.results.read(slot), (slot + 100) * 2, "a result that is completed is whole");
}

fn spin_until(done: impl Fn() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

/// S1 and S2 over two wraps: slots are filled again only when they were released, and both sides see whole records.
#[test]
fn slots_change_hands_over_wraps() {
    const TOTAL: u64 = 4;
    model(
        |lane| serve(lane, TOTAL, poll),
        |lane| {
            let mut released = 0;
            for slot in 0..TOTAL {
                if slot - released == CAPACITY {
                    spin_until(|| ring::completed(lane.sidecar()) > released);
                    read_result(lane, released);
                    released += 1;
                    ring::release(lane.client(), released);
                }
                lane.requests.write(slot, slot + 100);
                let _ = ring::publish(lane.client(), lane.sidecar(), slot + 1);
            }
            spin_until(|| ring::completed(lane.sidecar()) == TOTAL);
            (released..TOTAL).for_each(|slot| read_result(lane, slot));
        },
    );
}

/// S3: one thread of the client reads and releases, another fills what was released; the sidecar overwrites nothing in use.
#[test]
fn released_slots_are_reused_by_another_thread_of_the_client() {
    const TOTAL: u64 = CAPACITY + 1;
    model(
        |lane| serve(lane, TOTAL, park),
        |lane| {
            (0..CAPACITY).for_each(|slot| lane.requests.write(slot, slot + 100));
            lane.publish(CAPACITY);
            let reader = thread::spawn({
                let lane = Arc::clone(lane);
                move || {
                    assert_eq!(lane.sleep_for(1), Some(CAPACITY));
                    read_result(&lane, 0);
                    ring::release(lane.client(), 1);
                }
            });
            spin_until(|| lane.released.load(Ordering::Acquire) == 1);
            lane.requests.write(CAPACITY, CAPACITY + 100);
            lane.publish(TOTAL);
            reader.join().unwrap();
        },
    );
}

/// The client sleeps for `completed` twice, with different targets; no notification is lost, whatever was answered before.
#[test]
fn a_client_that_sleeps_twice_is_woken_twice() {
    model(
        |lane| {
            let mut answered = Answered::default();
            for completed in 1..=2 {
                lane.results.write(completed - 1, completed);
                lane.complete(&mut answered, completed);
            }
        },
        |lane| {
            for target in 1..=2 {
                assert!(lane.sleep_for(target).is_some_and(|completed| completed >= target));
                assert_eq!(lane.results.read(target - 1), target);
            }
        },
    );
}

/// The client sleeps for more than the next batch: the batches between must not use up its wake-up.
#[test]
fn a_client_that_sleeps_for_a_later_batch_is_woken() {
    model(
        |lane| {
            let mut answered = Answered::default();
            (1..=3).for_each(|completed| lane.complete(&mut answered, completed));
        },
        |lane| assert_eq!(lane.sleep_for(3), Some(3)),
    );
}

/// The sidecar parks whenever it finds nothing; a client that publishes twice rings when it must.
#[test]
fn a_parked_sidecar_hears_every_slot() {
    model(
        |lane| serve(lane, 2, park),
        |lane| {
            for submitted in 1..=2 {
                lane.requests.write(submitted - 1, submitted + 99);
                lane.publish(submitted);
            }
        },
    );
}

/// The sidecar takes one slot a turn, and tries to park between two turns: it must not, while slots that it has seen wait.
#[test]
fn a_lane_is_never_parked_over_slots_that_wait() {
    model(
        |lane| {
            let mut intake = Intake::new(CAPACITY, 0);
            while intake.taken() < 2 {
                let waiting = intake.look(lane.client()).expect("this client keeps the rules");
                intake.take(waiting.min(1));
                if intake.taken() < 2 {
                    park(lane, &intake);
                }
            }
        },
        |lane| lane.publish(2),
    );
}

/// One hand works on the first slot, for as long as it likes, when another that finds nothing to do parks the lane: the second
/// slot wakes somebody all the same.
#[test]
fn a_lane_may_be_parked_over_slots_that_are_worked_on() {
    model(
        |lane| {
            let mut intake = Intake::new(CAPACITY, 0);
            let mut claimed = 0;
            while claimed < 2 {
                claimed += intake.look(lane.client()).expect("this client keeps the rules") - claimed;
                if claimed < 2 && ring::park(lane.sidecar(), lane.client(), claimed) {
                    lane.doorbell.wait();
                    ring::unpark(lane.sidecar());
                }
            }
            assert_eq!(ring::completed(lane.sidecar()), 0);
        },
        |lane| {
            lane.publish(1);
            lane.publish(2);
        },
    );
}

/// Both sides sleep: two calls that wait for their answers, against a sidecar that parks.
#[test]
fn a_call_between_two_sleepers_returns() {
    model(
        |lane| serve(lane, 2, park),
        |lane| {
            for submitted in 1..=2 {
                lane.requests.write(submitted - 1, submitted + 99);
                lane.publish(submitted);
                assert_eq!(lane.sleep_for(submitted), Some(submitted));
                read_result(lane, submitted - 1);
            }
        },
    );
}

/// S4 and S5 over a wrap: the sidecar puts an event only where there is room, and the client reads whole events.
#[test]
fn events_change_hands_over_a_wrap() {
    const TOTAL: u64 = CAPACITY + 1;
    model(
        |lane| {
            let mut answered = Answered::default();
            let room = std::cell::RefCell::new(EventRoom::new(CAPACITY));
            for number in 0..TOTAL {
                spin_until(|| room.borrow_mut().room(lane.client(), number, 1).expect("this client keeps the rules") > 0);
                lane.events.write(number, number + 7);
                let _ = ring::publish_events(lane.sidecar(), lane.client(), &mut answered, number + 1);
            }
        },
        |lane| {
            for number in 0..TOTAL {
                spin_until(|| ring::events_published(lane.sidecar()) > number);
                assert_eq!(lane.events.read(number), number + 7, "an event that is published is whole");
                ring::release_events(lane.client(), number + 1);
            }
        },
    );
}

/// The client sleeps for events one by one.
#[test]
fn a_client_that_sleeps_for_events_is_woken() {
    model(
        |lane| {
            let mut answered = Answered::default();
            for number in 0..2 {
                lane.events.write(number, number + 7);
                if ring::publish_events(lane.sidecar(), lane.client(), &mut answered, number + 1) {
                    lane.notify.send();
                }
            }
        },
        |lane| {
            for number in 0..2 {
                while !ring::announce_events_wait(lane.client(), lane.sidecar(), number + 1) {
                    lane.notify.wait();
                }
                assert_eq!(lane.events.read(number), number + 7);
            }
        },
    );
}

/// The sidecar closes a lane while its client sleeps for a result that never comes: it wakes, and what was completed is true.
#[test]
fn closing_wakes_a_sleeper_who_then_sees_the_last_results() {
    model(
        |lane| {
            lane.results.write(0, 42);
            lane.complete(&mut Answered::default(), 1);
            ring::close(lane.sidecar(), LaneStatus::Closed);
            lane.notify.send();
        },
        |lane| {
            assert_eq!(lane.sleep_for(2), None);
            assert_eq!(ring::status(lane.sidecar()), LaneStatus::Closed as u64);
            assert_eq!(lane.completed.load(Ordering::Relaxed), 1, "status comes after the last completed");
            assert_eq!(lane.results.read(0), 42);
        },
    );
}

/// The ring of market data: cursors as they are, and records of two words each, so that a torn copy can be told from a whole one.
/// Both sides may touch a record at once here: that is the point of the claim.
struct Broadcast {
    written: AtomicU64,
    claimed: AtomicU64,
    records: [[AtomicU64; 2]; CAPACITY as usize],
}

impl Broadcast {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        Arc::new(Self { written: word(), claimed: word(), records: std::array::from_fn(|_| [word(), word()]) })
    }

    fn words(&self) -> MarketWords<'_> {
        MarketWords { written: &self.written, claimed: &self.claimed }
    }

    fn record(&self, index: u64) -> &[AtomicU64; 2] {
        &self.records[(index % CAPACITY) as usize]
    }

    /// Writes and shows the records of one batch.
    fn tell(&self, first: u64, count: u64) {
        self.words().claim(first + count);
        for index in first..first + count {
            self.record(index).iter().for_each(|word| word.store(index + 1, Ordering::Relaxed));
        }
        self.words().show(first + count);
    }

    /// One look of a reader that has read `next` records: what it keeps is whole. Gives where it goes on.
    fn look(&self, next: u64) -> u64 {
        let shown = self.words().shown();
        let count = (shown - next).min(CAPACITY);
        let copied: Vec<[u64; 2]> =
            (next..next + count).map(|index| [0, 1].map(|word| self.record(index)[word].load(Ordering::Relaxed))).collect();
        if !self.words().is_whole(next, CAPACITY) {
            return shown; // a gap: it goes on behind what it missed
        }
        for (number, words) in (next + 1..).zip(copied) {
            assert_eq!(words, [number, number], "a record that a reader keeps is whole, and its own");
        }
        next + count
    }
}

/// A reader that the writer overtakes: whatever it keeps is true, and it comes to the end, by gaps if need be.
#[test]
fn what_a_reader_of_the_broadcast_keeps_is_whole() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(|| {
        let broadcast = Broadcast::new();
        let writer = thread::spawn({
            let broadcast = Arc::clone(&broadcast);
            move || {
                broadcast.tell(0, 1);
                broadcast.tell(1, 2);
                broadcast.tell(3, 1);
            }
        });
        let next = broadcast.look(broadcast.look(0));
        writer.join().unwrap();
        let next = broadcast.look(next);
        assert_eq!(broadcast.look(next), 4, "everything is read or missed in two looks");
    });
}

/// Records that are staged and not shown are nobody's yet, and what stood in their places is worth nothing from the claim on.
#[test]
fn what_is_staged_is_not_read() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(|| {
        let broadcast = Broadcast::new();
        broadcast.tell(0, CAPACITY);
        let writer = thread::spawn({
            let broadcast = Arc::clone(&broadcast);
            move || {
                broadcast.words().claim(CAPACITY + 1);
                broadcast.record(CAPACITY).iter().for_each(|word| word.store(CAPACITY + 1, Ordering::Relaxed));
            }
        });
        assert_eq!(broadcast.look(0), CAPACITY, "it reads what is shown, or has a gap up to it");
        writer.join().unwrap();
        assert_eq!(broadcast.look(CAPACITY), CAPACITY);
    });
}

/// A row of the board under its writer: whatever a reader gets is of one write, and never older than what it got before.
#[test]
fn a_row_of_the_board_is_of_one_write() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(|| {
        let row = Arc::new([0, 0, 0].map(AtomicU64::new));
        let store = |row: &[AtomicU64; 3], number| {
            seqlock::write(&row[0], || row[1..].iter().for_each(|word| word.store(number, Ordering::Relaxed)));
        };
        let load = |row: &[AtomicU64; 3]| seqlock::read(&row[0], || [1, 2].map(|word| row[word].load(Ordering::Relaxed)));
        let writer = thread::spawn({
            let row = Arc::clone(&row);
            move || (1..=2).for_each(|number| store(&row, number))
        });
        let mut last = 0;
        for [one, other] in (0..2).filter_map(|_| load(&row)) {
            assert_eq!(one, other, "a torn row");
            assert!(one >= last, "a row older than the one before");
            last = one;
        }
        writer.join().unwrap();
        assert_eq!(load(&row), Some([2, 2]));
    });
}
