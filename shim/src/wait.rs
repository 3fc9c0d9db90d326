//! How a thread waits for its lane: spins, yields, then sleeps on the hub, honouring signals and the deadline. Nothing that
//! runs here without the GIL may touch a Python object.

use crate::error::{End, LaneFull, RinglaneError};
use crate::lane::Lane;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use ringlane_layout::client::Goal;
use ringlane_layout::patience::{ALREADY_FILLS, Patience, full_words, is_late, next_look};
use ringlane_layout::slots::Obstacle;
use std::thread;
use std::time::{Duration, Instant};

/// How long a waiter without the GIL spins, and how long it spins and yields its core in all, before it sleeps.
const SPIN: Duration = Duration::from_micros(10);
const LINGER: Duration = Duration::from_micros(60);

impl Lane {
    /// Whether waiting for `goal` is over, one way or the other.
    pub fn is_settled(&self, goal: Goal) -> bool {
        self.client.reached(goal) || self.alive().is_err()
    }

    /// Says what this process sleeps for. True: it must not sleep.
    pub fn announced(&self, goal: Goal) -> bool {
        self.is_settled(goal) || (!self.is_away(self.client.status()) && (self.client.announce(goal) || self.hub.get().has_ended()))
    }

    /// Waits without the GIL, and without spinning where it `sleeps`. What was completed before an end is still good.
    pub fn wait_for(&self, py: Python<'_>, goal: Goal, deadline: Option<Instant>, sleeps: bool) -> PyResult<()> {
        let linger = || self.client.linger(goal, SPIN, LINGER) || self.is_settled(goal);
        while !self.is_settled(goal) && (sleeps || !py.detach(linger)) {
            self.client.enlist(goal);
            let slept = self.sleep(py, goal, deadline);
            self.client.withdraw(goal);
            slept?;
        }
        let alive = self.alive(); // looked at first: what came before an end is seen after it
        if self.client.reached(goal) { Ok(()) } else { Ok(alive?) }
    }

    fn sleep(&self, py: Python<'_>, goal: Goal, deadline: Option<Instant>) -> PyResult<()> {
        loop {
            let settled = py.detach(|| {
                let epoch = self.hub.get().lookout.epoch();
                if self.announced(goal) {
                    return true;
                }
                self.hub.get().sleep(epoch, next_look(deadline), self.is_away(self.client.status()));
                self.is_settled(goal)
            });
            if settled {
                return Ok(());
            }
            py.check_signals()?;
            if is_late(deadline) {
                return Err(PyTimeoutError::new_err(goal.late_words()));
            }
        }
    }

    /// Removes an obstacle by waiting, or says why that cannot be.
    #[cold]
    pub fn wait_for_room(&self, py: Python<'_>, obstacle: Obstacle, patience: &mut Patience) -> PyResult<()> {
        let full = || full_words(obstacle, self.number, self.client.geometry().depth_slots);
        let lane_full = || (self.client.border.refused(), LaneFull::new_err(full())).1;
        let until = match obstacle {
            Obstacle::Closed => return Err(End::Closed.into()),
            Obstacle::Reservation(owner) if owner == thread::current().id() => return Err(RinglaneError::new_err(ALREADY_FILLS)),
            _ if !patience.waits => return Err(lane_full()),
            Obstacle::Unfinished(end) => return self.wait_for(py, Goal::Completed(end), patience.deadline, false),
            Obstacle::Reservation(_) => patience.deadline,
            Obstacle::Pinned(..) => patience.deadline_of_looks(),
        };
        if is_late(until) {
            let is_ours = matches!(obstacle, Obstacle::Pinned(..));
            return Err(if is_ours { lane_full() } else { PyTimeoutError::new_err(full()) });
        }
        py.detach(|| self.client.wait_freed(next_look(until).saturating_duration_since(Instant::now())));
        py.check_signals()
    }
}
