//! How threads share one thing to sleep on, such as a client's notify socket: one of them keeps a lookout there, the others
//! sleep until it tells them. What is looked at, and how, never enters here.

use crate::primitive::lock;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
struct State {
    /// Counts the times that something was seen.
    epoch: u64,
    /// Whether a thread keeps the lookout.
    manned: bool,
}

/// The lookout of one process.
#[derive(Debug, Default)]
pub struct Lookout {
    state: Mutex<State>,
    moved: Condvar,
}

impl Lookout {
    /// To be taken before the last check after which a thread sleeps.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        lock(&self.state).epoch
    }

    /// Sleeps until something was seen after `epoch` was taken, at most until `end`. If nobody keeps the lookout, this thread
    /// does: it calls `look`, which waits at most for the time it is given and says whether it saw something. True: it did,
    /// and all others were told.
    pub fn sleep(&self, epoch: u64, end: Instant, look: impl FnOnce(Duration) -> bool) -> bool {
        let mut state = lock(&self.state);
        if state.epoch != epoch {
            return false;
        }
        let rest = end.saturating_duration_since(Instant::now());
        if state.manned {
            drop(self.moved.wait_timeout(state, rest));
            return false;
        }
        state.manned = true;
        drop(state);
        let seen = look(rest);
        let mut state = lock(&self.state);
        state.manned = false;
        if seen {
            state.epoch += 1;
            self.moved.notify_all();
        } else {
            self.moved.notify_one(); // somebody must take over
        }
        seen
    }

    /// Wakes all who sleep: something was seen by another way.
    pub fn wake(&self) {
        lock(&self.state).epoch += 1;
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn what_was_seen_before_the_sleep_ends_it_at_once() {
        let lookout = Lookout::default();
        let epoch = lookout.epoch();
        lookout.wake();
        assert!(!lookout.sleep(epoch, Instant::now() + LONG, |_| unreachable!("nobody needs to look")));
    }

    #[test]
    fn who_saw_nothing_hands_the_lookout_on() {
        let (lookout, begin) = (Lookout::default(), Instant::now());
        let end = begin + Duration::from_secs(20);
        std::thread::scope(|scope| {
            lookout.sleep(0, end, |_| {
                scope.spawn(|| lookout.sleep(0, end, |_| false));
                std::thread::sleep(Duration::from_millis(100)); // enough for the other to be asleep; if not, it looks itself
                false
            });
        });
        assert!(begin.elapsed() < Duration::from_secs(15), "nobody took over");
    }

    #[test]
    fn one_looks_at_a_time_and_its_end_leaves_no_sleeper_without_lookout() {
        let (lookout, looking, turns) = (Lookout::default(), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    // Each of these sleeps would last a minute if a wake-up were lost.
                    while turns.load(Ordering::SeqCst) < 2000 {
                        let epoch = lookout.epoch();
                        lookout.sleep(epoch, Instant::now() + LONG, |_| {
                            assert_eq!(looking.fetch_add(1, Ordering::SeqCst), 0, "two keep the lookout");
                            let turn = turns.fetch_add(1, Ordering::SeqCst);
                            std::thread::yield_now();
                            looking.fetch_sub(1, Ordering::SeqCst);
                            turn.is_multiple_of(3) || turn >= 1999
                        });
                    }
                    lookout.wake();
                });
            }
        });
        assert!(turns.into_inner() >= 2000);
    }
}
