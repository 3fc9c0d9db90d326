//! Whatever a client writes into the words of its `requests` header, and whenever, what the sidecar believes of them stays
//! inside the lane. The input is a program: which word is set to what, between which of the sidecar's own steps.

use std::sync::atomic::{AtomicU64, Ordering};

use ringlane_layout::ring::{Answered, ClientWords, EventRoom, Intake, SidecarWords, complete, park, publish_events};

use super::Target;

const DEPTH: u64 = 64;
const EVENTS: u64 = 64;
/// The target.
pub const TARGET: Target = Target { name: "requests_header", run, seeds };
/// Steps of one program.
const STEPS_MAX: usize = 512;

fn run(program: &[u8]) {
    let client: [AtomicU64; 5] = Default::default();
    let sidecar: [AtomicU64; 4] = Default::default();
    let [submitted, released, events_read, waiting, events_waiting] = &client;
    let [completed, asleep, status, events_published] = &sidecar;
    let peer = ClientWords { submitted, released, events_read, waiting, events_waiting };
    let mine = SidecarWords { completed, asleep, status, events_published };
    let (mut intake, mut room) = (Intake::new(DEPTH, 0), EventRoom::new(EVENTS));
    let (mut answered, mut answered_events, mut written) = (Answered::default(), Answered::default(), 0_u64);
    for step in program.chunks_exact(9).take(STEPS_MAX) {
        let value = u64::from_le_bytes(step[1..].try_into().expect("eight bytes"));
        match step[0] % 16 {
            word @ 0..=4 => client[usize::from(word)].store(value, Ordering::Relaxed),
            word @ 5..=9 => drop(client[usize::from(word - 5)].fetch_add(value % 130, Ordering::Relaxed)),
            10 => drop(park(mine, peer, intake.taken())),
            11 | 12 => match room.room(peer, written, 1 + value % 2) {
                Ok(0) => {}
                Ok(free) => {
                    assert!(free <= EVENTS, "{free} free places");
                    written += 1;
                    let _ = publish_events(mine, peer, &mut answered_events, written);
                }
                Err(_) => return,
            },
            _ => match intake.look(peer) {
                Ok(left) => {
                    assert!(left <= DEPTH && intake.taken() + left == intake.submitted());
                    assert!(intake.released() <= intake.taken() && intake.submitted() - intake.released() <= DEPTH);
                    intake.take(left.min(value % (DEPTH + 1)));
                    let _ = complete(mine, peer, &mut answered, intake.taken());
                    assert_eq!(completed.load(Ordering::Relaxed), intake.taken());
                }
                // A fault closes the lane.
                Err(_) => return,
            },
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let step = |what: u8, value: u64| [&[what][..], &value.to_le_bytes()].concat();
    let by_the_rules = [(5, 64), (13, 64), (6, 64), (5, 9), (3, 73), (14, 5), (10, 0), (11, 1), (12, 1), (7, 2), (4, 3), (11, 0)];
    let all = by_the_rules.map(|(what, value)| step(what, value)).concat();
    vec![all.repeat(3), [step(0, u64::MAX), step(13, 1)].concat(), [step(5, 3), step(13, 3), step(1, 1 << 40), step(13, 0)].concat()]
}
