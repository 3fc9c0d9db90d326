//! The least that can stand at the other end of a lane: spins on `submitted` and echoes records. What a lane costs without
//! a sidecar's work is measured against it.
//!
//! `echo_peer REQUESTS_FD RESULTS_FD DEPTH EVENTS`, both descriptors inherited; ends when its standard input does.

use memmap2::MmapOptions;
use ringlane_layout::primitive::Ordering;
use ringlane_layout::region::{LaneGeometry, RING_OFFSET, requests_word, results_word};
use ringlane_layout::ring::{Answered, ClientWords, Intake, SidecarWords, complete};
use ringlane_layout::shared::{RecordRing, SharedBytes};
use std::io::Read;
use std::sync::atomic::AtomicBool;

static ENDED: AtomicBool = AtomicBool::new(false);

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|argument| argument.parse().expect("a number")).collect();
    let &[requests, results, depth, events] = numbers.as_slice() else { panic!("REQUESTS_FD RESULTS_FD DEPTH EVENTS") };
    let geometry = LaneGeometry::new(depth, events).expect("a geometry");
    let requests = MmapOptions::new().len(geometry.requests_bytes()).map_raw_read_only(requests as i32).expect("requests");
    let results = MmapOptions::new().len(geometry.results_bytes()).map_raw(results as i32).expect("results");
    // SAFETY: both maps live until the end of the program, are page-aligned, and nobody forms references into them; the
    // first is only loaded from.
    let (theirs, ours) =
        unsafe { (SharedBytes::new(requests.as_mut_ptr(), requests.len()), SharedBytes::new(results.as_mut_ptr(), results.len())) };
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        ENDED.store(true, Ordering::Relaxed);
    });
    println!("ready");
    echo(theirs, ours, geometry.depth_slots);
}

fn echo(theirs: SharedBytes, ours: SharedBytes, depth: u64) {
    let peer = ClientWords {
        submitted: theirs.word(requests_word::SUBMITTED),
        released: theirs.word(requests_word::RELEASED),
        events_read: theirs.word(requests_word::EVENTS_READ),
        waiting: theirs.word(requests_word::WAITING),
        events_waiting: theirs.word(requests_word::EVENTS_WAITING),
    };
    let mine = SidecarWords {
        completed: ours.word(results_word::COMPLETED),
        asleep: ours.word(results_word::ASLEEP),
        status: ours.word(results_word::STATUS),
        events_published: ours.word(results_word::EVENTS_PUBLISHED),
    };
    let (requests, results) = (RecordRing::new(theirs, RING_OFFSET, depth), RecordRing::new(ours, RING_OFFSET, depth));
    let (mut intake, mut answered, mut record) = (Intake::new(depth, 0), Answered::default(), [0; 64]);
    while !ENDED.load(Ordering::Relaxed) {
        let count = intake.look(peer).expect("a client that keeps the rules");
        for slot in intake.taken()..intake.taken() + count {
            requests.read(slot, &mut record);
            results.write(slot, &record);
        }
        if count > 0 {
            intake.take(count);
            let _ = complete(mine, peer, &mut answered, intake.taken()); // nobody sleeps: there is no notify socket here
        }
    }
}
