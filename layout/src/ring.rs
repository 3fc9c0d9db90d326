//! The lane protocol: the order of loads, stores and fences by which slots change hands. No compare-and-swap anywhere.
//! It works on bare words, so that loom can model it; mappings, file descriptors and records never enter here.
//!
//! SYNC POINTS (each Release names the Acquire that it meets):
//! - S1 `submitted`: [`publish`] -> [`Intake::look`]. Request bytes before, sidecar's copy after.
//! - S2 `completed`: [`complete`] -> [`completed`]. Result bytes before, client's reads after.
//! - S3 `released`: [`release`] -> [`Intake::look`]. Client's last reads before, reuse of the slots after.
//! - S4 `events_published`: [`publish_events`] -> [`events_published`].
//! - S5 `events_read`: [`release_events`] -> [`EventRoom::room`].
//! - Sleeping is Dekker's hand-shake both ways: store own word, full fence, load the other's word. The side that stores last
//!   sees the other's store, so at least one of them acts.

use crate::primitive::{AtomicU64, Ordering, fence};
use crate::region::LaneStatus;

/// The words that the client writes.
#[derive(Clone, Copy)]
pub struct ClientWords<'a> {
    /// See `region::requests_word`.
    pub submitted: &'a AtomicU64,
    /// See `region::requests_word`.
    pub released: &'a AtomicU64,
    /// See `region::requests_word`.
    pub events_read: &'a AtomicU64,
    /// See `region::requests_word`.
    pub waiting: &'a AtomicU64,
    /// See `region::requests_word`.
    pub events_waiting: &'a AtomicU64,
}

/// The words that the sidecar writes.
#[derive(Clone, Copy)]
pub struct SidecarWords<'a> {
    /// See `region::results_word`.
    pub completed: &'a AtomicU64,
    /// See `region::results_word`.
    pub asleep: &'a AtomicU64,
    /// See `region::results_word`.
    pub status: &'a AtomicU64,
    /// See `region::results_word`.
    pub events_published: &'a AtomicU64,
}

/// A load that acquires, written as Relaxed plus fence: on a read-only mapping std promises only Relaxed loads.
#[inline]
fn load_acquire(word: &AtomicU64) -> u64 {
    let value = word.load(Ordering::Relaxed);
    fence(Ordering::Acquire);
    value
}

// ---- the client's half ----

/// Publishes all slots below `submitted`. True: the sidecar sleeps on this lane and needs its doorbell.
#[inline]
#[must_use = "a sleeping sidecar needs the doorbell"]
pub fn publish(mine: ClientWords, peer: SidecarWords, submitted: u64) -> bool {
    mine.submitted.store(submitted, Ordering::Release); // S1
    fence(Ordering::SeqCst); // meets the fence of `park`
    peer.asleep.load(Ordering::Relaxed) != 0
}

/// The slots that are done.
#[inline]
#[must_use]
pub fn completed(peer: SidecarWords) -> u64 {
    load_acquire(peer.completed) // S2
}

/// The lane's status: 0 while open.
#[inline]
#[must_use]
pub fn status(peer: SidecarWords) -> u64 {
    load_acquire(peer.status)
}

/// Announces that the client is about to sleep until `completed` reaches `target`. True: it is already there, or the lane
/// was closed, and the client must not sleep.
#[must_use = "when this is true, sleeping could last"]
pub fn announce_wait(mine: ClientWords, peer: SidecarWords, target: u64) -> bool {
    mine.waiting.store(target, Ordering::Relaxed);
    fence(Ordering::SeqCst); // meets the fence of `complete` and of `close`
    load_acquire(peer.completed) >= target || load_acquire(peer.status) != 0
}

/// Announces that the client is about to sleep until `events_published` reaches `target`; as [`announce_wait`].
#[must_use = "when this is true, sleeping could last"]
pub fn announce_events_wait(mine: ClientWords, peer: SidecarWords, target: u64) -> bool {
    mine.events_waiting.store(target, Ordering::Relaxed);
    fence(Ordering::SeqCst); // meets the fence of `publish_events` and of `close`
    load_acquire(peer.events_published) >= target || load_acquire(peer.status) != 0
}

/// Gives back all slots below `released`.
#[inline]
pub fn release(mine: ClientWords, released: u64) {
    mine.released.store(released, Ordering::Release); // S3
}

/// The events that can be read.
#[inline]
#[must_use]
pub fn events_published(peer: SidecarWords) -> u64 {
    load_acquire(peer.events_published) // S4
}

/// Gives back all places of the event ring below `events_read`.
#[inline]
pub fn release_events(mine: ClientWords, events_read: u64) {
    mine.events_read.store(events_read, Ordering::Release); // S5
}

// ---- the sidecar's half ----

/// The sidecar's memory of what a client's cursors were: it never believes them further than it has checked.
#[derive(Debug, Clone, Copy)]
pub struct Intake {
    depth: u64,
    /// Slots taken so far; equals `completed` between turns. 0..2^64.
    taken: u64,
    /// Last checked `submitted`: `taken..=taken + depth`.
    submitted: u64,
    /// Last checked `released`: never above `taken`.
    released: u64,
}

impl Intake {
    /// A lane of `depth` slots of which `taken` are already done.
    #[must_use]
    pub const fn new(depth: u64, taken: u64) -> Self {
        Self { depth, taken, submitted: taken, released: taken }
    }

    /// As `new`, for a client that comes back and may still hold slots from `released` on.
    #[must_use]
    pub const fn resumed(depth: u64, taken: u64, released: u64) -> Self {
        Self { depth, taken, submitted: taken, released }
    }

    /// Slots taken so far.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// The last checked `submitted`.
    #[must_use]
    pub const fn submitted(&self) -> u64 {
        self.submitted
    }

    /// The last checked `released`.
    #[must_use]
    pub const fn released(&self) -> u64 {
        self.released
    }

    /// Loads the client's cursors once, checks them, and says how many slots wait. A lie is a fault, never clamped.
    #[inline]
    pub fn look(&mut self, peer: ClientWords) -> Result<u64, LaneStatus> {
        let submitted = load_acquire(peer.submitted); // S1
        if submitted == self.submitted {
            return Ok(submitted - self.taken);
        }
        self.check(submitted, load_acquire(peer.released)) // S3
    }

    /// Takes in what the client gave back since, also when it submitted nothing. What is out of range is left for
    /// [`Intake::look`] to find.
    pub fn look_released(&mut self, peer: ClientWords) {
        let released = load_acquire(peer.released); // S3
        if (self.released..=self.taken).contains(&released) {
            self.released = released;
        }
    }

    fn check(&mut self, submitted: u64, released: u64) -> Result<u64, LaneStatus> {
        if submitted < self.submitted {
            return Err(LaneStatus::SubmittedBackwards);
        }
        if submitted - self.taken > self.depth {
            return Err(LaneStatus::SubmittedTooFar);
        }
        if released < self.released || released > self.taken || submitted - released > self.depth {
            return Err(LaneStatus::ReleasedOutOfRange);
        }
        self.submitted = submitted;
        self.released = released;
        Ok(submitted - self.taken)
    }

    /// Notes that `count` slots, which [`Intake::look`] found, are done.
    #[inline]
    pub fn take(&mut self, count: u64) {
        assert!(count <= self.submitted - self.taken);
        self.taken += count;
    }
}

/// The last value of a client's `waiting` word that was answered: each value is answered once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answered {
    target: u64,
}

impl Answered {
    /// Whether a client that announced `waiting` must be woken now that the cursor stands at `cursor`.
    #[inline]
    fn due(&mut self, waiting: &AtomicU64, cursor: u64) -> bool {
        let target = waiting.load(Ordering::Relaxed);
        let due = target != 0 && target != self.target && target <= cursor;
        if due {
            self.target = target;
        }
        due
    }
}

/// Publishes all results below `completed`. True: the client announced that it sleeps for this and must be notified.
#[inline]
#[must_use = "a sleeping client needs its notification"]
pub fn complete(mine: SidecarWords, peer: ClientWords, answered: &mut Answered, completed: u64) -> bool {
    mine.completed.store(completed, Ordering::Release); // S2
    fence(Ordering::SeqCst); // meets the fence of `announce_wait`
    answered.due(peer.waiting, completed)
}

/// Publishes all events below `published`; as [`complete`].
#[must_use = "a sleeping client needs its notification"]
pub fn publish_events(mine: SidecarWords, peer: ClientWords, answered: &mut Answered, published: u64) -> bool {
    mine.events_published.store(published, Ordering::Release); // S4
    fence(Ordering::SeqCst); // meets the fence of `announce_events_wait`
    answered.due(peer.events_waiting, published)
}

/// Ends the lane for the client. The caller notifies in any case.
pub fn close(mine: SidecarWords, status: LaneStatus) {
    mine.status.store(status as u64, Ordering::Release);
    fence(Ordering::SeqCst); // meets the fence of `announce_wait`
}

/// Announces that the sidecar stops polling this lane, of which it works on, or has done, the slots below `claimed`. True: it
/// may sleep; false: slots wait, and it is awake again.
#[must_use = "when this is false, there is work"]
pub fn park(mine: SidecarWords, peer: ClientWords, claimed: u64) -> bool {
    mine.asleep.store(1, Ordering::Relaxed);
    fence(Ordering::SeqCst); // meets the fence of `publish`
    // Slots that were seen, but that nobody works on yet, are work too.
    let quiet = peer.submitted.load(Ordering::Relaxed) == claimed;
    if !quiet {
        unpark(mine);
    }
    quiet
}

/// The sidecar polls this lane again.
pub fn unpark(mine: SidecarWords) {
    mine.asleep.store(0, Ordering::Relaxed);
}

/// The sidecar's memory of how far a client has read its event ring.
#[derive(Debug, Clone, Copy)]
pub struct EventRoom {
    capacity: u64,
    /// Last checked `events_read`: `published - capacity..=published`.
    read: u64,
}

impl EventRoom {
    /// An empty ring of `capacity` events.
    #[must_use]
    pub const fn new(capacity: u64) -> Self {
        Self { capacity, read: 0 }
    }

    /// As `new`, for a client that comes back with its reading done up to `read`.
    #[must_use]
    pub const fn resumed(capacity: u64, read: u64) -> Self {
        Self { capacity, read }
    }

    /// Last checked `events_read`.
    #[must_use]
    pub const fn read(&self) -> u64 {
        self.read
    }

    /// Free places, given `published`; looks at the client's word only when the last look leaves fewer than `wanted`.
    pub fn room(&mut self, peer: ClientWords, published: u64, wanted: u64) -> Result<u64, LaneStatus> {
        if self.capacity - (published - self.read) < wanted {
            let read = load_acquire(peer.events_read); // S5
            if read < self.read || read > published {
                return Err(LaneStatus::EventsReadOutOfRange);
            }
            self.read = read;
        }
        Ok(self.capacity - (published - self.read))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a client writes into its cursors, what is accepted stays inside the lane.
        #[test]
        fn arbitrary_cursors_are_checked_or_refused(words in prop::collection::vec((any::<u64>(), any::<u64>(), 0u64..80), 1..20)) {
            let mut intake = Intake::new(64, 0);
            for (submitted, released, small) in words {
                for (submitted, released) in [(submitted, released), (intake.taken() + small, intake.taken())] {
                    let before = intake;
                    match intake.check(submitted, released) {
                        Ok(waiting) => {
                            prop_assert!(waiting <= 64 && intake.taken() + waiting == submitted);
                            prop_assert!(released <= intake.taken() && submitted - released <= 64);
                            intake.take(waiting / 2);
                        }
                        Err(_) => prop_assert!(intake.submitted() == before.submitted() && intake.taken() == before.taken()),
                    }
                }
            }
        }

        #[test]
        fn arbitrary_events_read_is_checked_or_refused(read: u64, published in 0u64..64) {
            let words: [AtomicU64; 5] = std::array::from_fn(|_| AtomicU64::new(0));
            words[2].store(read, Ordering::Relaxed);
            let peer = ClientWords { submitted: &words[0], released: &words[1], events_read: &words[2], waiting: &words[3], events_waiting: &words[4] };
            let mut room = EventRoom::new(64);
            match room.room(peer, published, 65) {
                Ok(free) => prop_assert!(read <= published && free == 64 - (published - read)),
                Err(status) => prop_assert!(read > published && status == LaneStatus::EventsReadOutOfRange),
            }
        }
    }
}
