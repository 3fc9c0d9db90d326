//! The least that can stand at the other end of a lane: the sidecar's own half of it, which spins and answers each request
//! with the request's bytes. What a lane costs without a sidecar's work is measured against it.
//!
//! It prints the numbers of its descriptors (requests, results) for the measurement to open through `/proc`, and
//! ends when its standard input does.

use bytemuck::Zeroable;
use ringlane_layout::orders::OrderResult;
use ringlane_layout::record::RecordBytes;
use ringlane_layout::region::LaneGeometry;
use ringlane_sidecar::lanes::{Lane, Owner};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

static ENDED: AtomicBool = AtomicBool::new(false);

fn main() {
    let notify = OwnedFd::from(UnixStream::pair().expect("a socket").0);
    let geometry = LaneGeometry::new(1024, 64).expect("a geometry");
    let mut lane = Lane::create(1, Owner::default(), geometry, false, Arc::new(notify), 0).expect("a lane");
    let files = lane.fds().expect("descriptors");
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]); // either way it is over
        ENDED.store(true, Ordering::Relaxed);
    });
    println!("{} {}", files[0].as_raw_fd(), files[1].as_raw_fd());
    let mut record = [RecordBytes::zeroed()];
    while !ENDED.load(Ordering::Relaxed) {
        let count = lane.look().expect("a client that keeps the rules");
        for _ in 0..count {
            lane.copy_requests(&mut record);
            let answer: OrderResult = bytemuck::cast(record[0]);
            lane.write_results(&[answer]);
        }
        if count > 0 {
            lane.complete();
        }
    }
}
