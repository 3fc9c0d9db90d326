//! The client against the protocol's other half, over memory that nobody else maps.

use super::*;
use crate::region::LaneStatus;
use crate::ring::{Answered, EventRoom, Intake};
use proptest::prelude::*;

const DEPTH: u64 = 64;
const LANE: u64 = 7;

/// A region in leaked memory. Its second copy of the ring is not the first one, so who writes there writes both.
struct Memory(SharedBytes);

impl Mapping for Memory {
    fn bytes(&self) -> SharedBytes {
        self.0
    }
}

fn geometry() -> LaneGeometry {
    LaneGeometry::new(DEPTH, 64).unwrap()
}

fn regions() -> (SharedBytes, SharedBytes) {
    let geometry = geometry();
    let requests = SharedBytes::leaked(geometry.requests_bytes() + geometry.request_ring_bytes());
    let results = SharedBytes::leaked(geometry.results_bytes() + geometry.result_ring_bytes());
    requests.write(0, &geometry.header(REQUESTS_MAGIC, LANE, 1));
    results.write(0, &geometry.header(RESULTS_MAGIC, LANE, 2));
    (requests, results)
}

fn client_with(used_bits: [u64; 8]) -> Client<Memory> {
    let (requests, results) = regions();
    Client::new(geometry(), LANE, (1, 2), used_bits.into(), Memory(requests), Memory(results)).unwrap()
}

fn client() -> Client<Memory> {
    client_with([u64::MAX; 8])
}

fn record(number: u64) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&number.to_le_bytes());
    record
}

/// Fills a look's slots with their numbers, in both copies of the ring.
fn fill(client: &Client<Memory>, look: &Look<Memory>) {
    for slot in look.first..look.first + look.count {
        let offset = client.geometry().request_offset(slot);
        for copy in [offset, offset + client.geometry().request_ring_bytes()] {
            look.mapping.bytes().write(copy, &record(slot));
        }
    }
}

/// The sidecar's half: takes everything, checks that slot `i` holds the number `i`, and answers with it.
struct Peer {
    intake: Intake,
    answered: Answered,
    notified: u64,
}

impl Peer {
    fn new() -> Self {
        Self { intake: Intake::new(DEPTH, 0), answered: Answered::default(), notified: 0 }
    }

    fn serve(&mut self, client: &Client<Memory>, most: u64) {
        let waiting = self.intake.look(client.mine()).expect("the client keeps the protocol").min(most);
        let ring = RecordRing::new(client.requests, RING_OFFSET, DEPTH);
        for slot in self.intake.taken()..self.intake.taken() + waiting {
            let mut request = [0; RECORD_BYTES];
            ring.read(slot, &mut request);
            assert_eq!(request, record(slot), "slot {slot} was filled by somebody else");
            client.results.write(client.geometry().result_offset(slot), &request);
        }
        self.intake.take(waiting);
        let wake = ring::complete(client.peer(), client.mine(), &mut self.answered, self.intake.taken());
        self.notified += u64::from(wake);
    }
}

#[derive(Debug, Clone)]
enum Step {
    One,
    Batch(u64),
    Abandon(u64),
    /// The choice among the serials that are pinned.
    Unpin(prop::sample::Index),
    Serve(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::One),
        3 => (1..=DEPTH).prop_map(Step::Batch),
        1 => (1..=DEPTH).prop_map(Step::Abandon),
        6 => any::<prop::sample::Index>().prop_map(Step::Unpin),
        4 => (0..=DEPTH).prop_map(Step::Serve),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    /// Whatever a client does, the sidecar finds no fault, every slot holds what was meant for it, and results that are
    /// pinned stay what they were.
    #[test]
    fn both_halves_agree(steps in steps()) {
        let (client, mut peer) = (client(), Peer::new());
        let mut pinned: Vec<(Serial, u64, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::One => {
                    let next = client.cursors().0;
                    if let Ok((serial, slot, _)) = client.submit_one(&record(next)) {
                        prop_assert_eq!(slot, next);
                        pinned.push((serial, slot, 1));
                    }
                }
                Step::Batch(count) => {
                    if let Ok((serial, ..)) = client.reserve(count, true) {
                        let look = client.look_at_open(serial).unwrap();
                        fill(&client, &look);
                        prop_assert!(client.commit(serial - 1).is_none() && client.look_at_open(serial + 1).is_none());
                        client.abandon(serial + 1, |_| Err("it is somebody else's")).unwrap();
                        let (results, _) = client.commit(serial).unwrap();
                        client.unpin(look.serial.unwrap());
                        pinned.push((results.serial.unwrap(), results.first, results.count));
                    }
                }
                Step::Abandon(count) => {
                    if let Ok((serial, ..)) = client.reserve(count, false) {
                        client.abandon(serial, |_| Err("nothing looks at it")).unwrap();
                    }
                }
                Step::Unpin(choice) => {
                    if !pinned.is_empty() { client.unpin(pinned.swap_remove(choice.index(pinned.len())).0) }
                }
                Step::Serve(most) => peer.serve(&client, most),
            }
            let (_, completed, released, ..) = client.cursors();
            prop_assert!(pinned.iter().all(|&(_, first, _)| released <= first));
            for slot in pinned.iter().flat_map(|&(_, first, count)| first..first + count).filter(|&slot| slot < completed) {
                let mut result = [0; RECORD_BYTES];
                client.read_result(slot, &mut result);
                prop_assert_eq!(result, record(slot));
            }
        }
    }

    /// The nearest target of all sleepers is announced, and each sleeper is woken.
    #[test]
    fn every_sleeper_is_notified(targets in prop::collection::vec(1..=DEPTH, 1..10), steps in prop::collection::vec(1u64..20, 64)) {
        let (client, mut peer) = (client(), Peer::new());
        for slot in 0..DEPTH { assert!(client.submit_one(&record(slot)).is_ok()); }
        for &target in &targets { client.enlist(Goal::Completed(target)); }
        let mut asleep = targets;
        for step in steps {
            asleep.retain(|&target| {
                let over = client.announce(Goal::Completed(target));
                if over { client.withdraw(Goal::Completed(target)); }
                !over
            });
            let (before, first) = (peer.notified, asleep.iter().min().copied());
            peer.serve(&client, step);
            let reached = first.is_some_and(|target| target <= client.completed());
            prop_assert_eq!(peer.notified > before, reached);
        }
        prop_assert!(asleep.is_empty());
        prop_assert_eq!(client.mine().waiting.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn headers_of_another_lane_are_refused() {
    for (region, offset) in [(0, 0), (0, 8), (0, 16), (0, 24), (0, 32), (1, 24), (1, 40)] {
        let (requests, results) = regions();
        [requests, results][region].write(offset, &[0xff; 8]);
        let refused = Client::new(geometry(), LANE, (1, 2), [0; 8].into(), Memory(requests), Memory(results));
        assert!(refused.err().unwrap().contains(["requests", "results"][region]));
    }
}

#[test]
fn bits_of_no_field_never_leave() {
    let client = client_with([u64::MAX, 0xff, 0, u64::MAX, 0, 0, 0, 0]);
    let (serial, ..) = client.reserve(2, true).unwrap();
    let look = client.look_at_open(serial).unwrap();
    look.mapping.bytes().write(client.geometry().request_offset(0), &[0x5a; 2 * RECORD_BYTES]);
    let _ = client.commit(serial).unwrap();
    for slot in 0..2 {
        let word = |index| client.requests.word(client.geometry().request_offset(slot) + 8 * index).load(Ordering::Relaxed);
        let all = u64::from_ne_bytes([0x5a; 8]);
        assert_eq!(std::array::from_fn(word), [all, 0x5a, 0, all, 0, 0, 0, 0]);
    }
}

#[test]
fn an_abandoned_reservation_with_looks_gets_a_new_ring_or_stays_open() {
    let client = client();
    let (serial, ..) = client.reserve(3, true).unwrap();
    let look = client.look_at_open(serial).unwrap();
    assert_eq!(client.abandon(serial, |_| Err("no memory")), Err("no memory"));
    assert!(matches!(client.submit_one(&record(0)), Err(Obstacle::Reservation(_))));
    client.abandon(serial, |_| Ok::<_, ()>(Memory(regions().0))).unwrap();
    assert!(!Arc::ptr_eq(&look.mapping, &client.look_at_ring().mapping));
    assert_eq!(client.reserve(3, true), Ok((serial + 1, 0, 1)));
    client.unpin(look.serial.unwrap()); // of the old reservation: the new one keeps its own
    assert!(client.look_at_open(serial + 1).is_some());
}

#[test]
fn ends_are_seen_by_who_would_sleep() {
    let client = client();
    client.submit_one(&record(0)).unwrap();
    assert!(!client.announce(Goal::Completed(1)) && !client.announce(client.next_event()));
    ring::close(client.peer(), LaneStatus::Closed);
    assert!(client.announce(Goal::Completed(1)) && client.announce(client.next_event()));
    assert_eq!(client.status(), LaneStatus::Closed as u64);
    client.close();
    assert_eq!(client.reserve(1, false), Err(Obstacle::Closed));
}

#[test]
fn events_are_taken_once_and_in_order() {
    let (client, mut room, mut written, mut expected) = (client(), EventRoom::new(64), 0, 0);
    let ring = RecordRing::new(client.results, RING_OFFSET + 2 * client.geometry().result_ring_bytes(), 64);
    for round in 0..50 {
        while room.room(client.mine(), written, 1).unwrap() > 0 && written < expected + 1 + round {
            ring.write(written, &record(written));
            written += 1;
        }
        let _ = ring::publish_events(client.peer(), client.mine(), &mut Answered::default(), written);
        let ahead = client.events_ahead().unwrap();
        let mut bytes = vec![0; (ahead.min(20) as usize) * RECORD_BYTES];
        assert_eq!(client.take_events(&mut bytes), ahead.min(20));
        for taken in bytes.chunks(RECORD_BYTES) {
            assert_eq!(taken, record(expected));
            expected += 1;
        }
    }
    client.peer().events_published.store(expected + 65, Ordering::Relaxed);
    assert!(client.events_ahead().unwrap_err().contains("65 events"));
}

#[test]
fn who_waits_for_slots_is_woken() {
    let client = client();
    let (serial, ..) = client.submit_one(&record(0)).unwrap();
    Peer::new().serve(&client, 1);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            while client.cursors().2 == 0 {
                client.wait_freed(Duration::from_secs(20)); // a lost wake-up takes this long
            }
        });
        while lock(&client.desk).slots.waiters == 0 && !waiter.is_finished() {
            thread::yield_now();
        }
        client.unpin(serial);
        waiter.join().unwrap();
    });
    assert!(begin.elapsed() < Duration::from_secs(15), "the waiter was not woken");
}
