//! How the sequencer waits: it spins, then yields its core at each turn; whether it sleeps is decided by its lanes.

use std::time::{Duration, Instant};

use crate::world;

/// What the sequencer does while nothing waits: spins at first, then gives its core away at each turn.
#[derive(Default)]
pub(super) struct Idle {
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
    pub(super) fn turn(&mut self, spin: Duration) -> bool {
        std::hint::spin_loop();
        self.turns += 1;
        if !self.turns.is_multiple_of(Self::CLOCK_TURNS) {
            return false;
        }
        let now = world::now();
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
    pub(super) fn end(&mut self) {
        if self.turns != 0 {
            *self = Self::default();
        }
    }
}
