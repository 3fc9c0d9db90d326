//! How a thread waits for its lane: spins, yields, then sleeps on the hub, honouring signals and the deadline. Nothing that
//! runs here without the GIL may touch a Python object.

use crate::error::{End, LaneFull, RinglaneError};
use crate::lane::Lane;
use pyo3::exceptions::PyTimeoutError;
use pyo3::prelude::*;
use ringlane_layout::client::Goal;
use ringlane_layout::slots::Obstacle;
use std::thread;
use std::time::{Duration, Instant};

/// How long a waiter without the GIL spins, and how long it spins and yields its core in all, before it sleeps.
const SPIN: Duration = Duration::from_micros(10);
const LINGER: Duration = Duration::from_micros(60);
/// Longest time between two looks at pending signals, so that Ctrl-C is never far.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How long slots at which arrays still look are waited for when no timeout is given.
const LOOKS_GRACE: Duration = Duration::from_secs(1);

/// When a wait of at most `timeout_ns` that begins now ends. `None`: never.
pub fn deadline_after(timeout_ns: Option<u64>) -> Option<Instant> {
    timeout_ns.and_then(|timeout| Instant::now().checked_add(Duration::from_nanos(timeout)))
}

fn is_late(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// When a sleep that begins now must end to look at signals, or earlier at `deadline`.
fn next_look(deadline: Option<Instant>) -> Instant {
    let look = Instant::now() + SIGNAL_CHECK_INTERVAL;
    deadline.map_or(look, |deadline| deadline.min(look))
}

/// How long somebody who wants slots waits.
pub struct Patience {
    pub deadline: Option<Instant>,
    /// Only this process can end its looks at completed slots, and perhaps it is this very thread that should: without a
    /// deadline, these are waited for only so long.
    deadline_of_looks: Instant,
}

impl Patience {
    pub fn new(timeout_ns: Option<u64>) -> Self {
        let deadline = deadline_after(timeout_ns);
        Self { deadline, deadline_of_looks: deadline.unwrap_or_else(|| Instant::now() + LOOKS_GRACE) }
    }
}

impl Lane {
    /// Whether waiting for `goal` is over, one way or the other.
    pub fn is_settled(&self, goal: Goal) -> bool {
        self.client.reached(goal) || self.alive().is_err()
    }

    /// Says what this process sleeps for. True: it must not sleep.
    pub fn announced(&self, goal: Goal) -> bool {
        self.is_settled(goal) || self.client.announce(goal) || self.hub.get().has_ended()
    }

    /// Waits without the GIL. What was completed before an end is still good.
    pub fn wait_for(&self, py: Python<'_>, goal: Goal, deadline: Option<Instant>) -> PyResult<()> {
        if !self.is_settled(goal) && !py.detach(|| self.client.linger(goal, SPIN, LINGER) || self.is_settled(goal)) {
            self.client.enlist(goal);
            let slept = self.sleep(py, goal, deadline);
            self.client.withdraw(goal);
            slept?;
        }
        if self.client.reached(goal) { Ok(()) } else { Ok(self.alive()?) }
    }

    fn sleep(&self, py: Python<'_>, goal: Goal, deadline: Option<Instant>) -> PyResult<()> {
        loop {
            let settled = py.detach(|| {
                let epoch = self.hub.get().lookout.epoch();
                if self.announced(goal) {
                    return true;
                }
                self.hub.get().sleep(epoch, next_look(deadline));
                self.is_settled(goal)
            });
            if settled {
                return Ok(());
            }
            py.check_signals()?;
            if is_late(deadline) {
                let words = match goal {
                    Goal::Completed(target) => format!("slot {} was not completed", target - 1),
                    Goal::Events(_) => "no event came".to_owned(),
                };
                return Err(PyTimeoutError::new_err(format!("{words} within the time given")));
            }
        }
    }

    /// Removes an obstacle by waiting, or says why that cannot be.
    #[cold]
    pub fn wait_for_room(&self, py: Python<'_>, obstacle: Obstacle, patience: &Patience) -> PyResult<()> {
        let looks = Some(patience.deadline_of_looks);
        let until = match obstacle {
            Obstacle::Closed => return Err(End::Closed.into()),
            Obstacle::Unfinished(end) => return self.wait_for(py, Goal::Completed(end), patience.deadline),
            Obstacle::Reservation(owner) if owner == thread::current().id() => {
                return Err(RinglaneError::new_err(
                    "this thread already fills a reservation of this lane; leave its `with` block first (one reservation a lane)",
                ));
            }
            Obstacle::Reservation(_) if is_late(patience.deadline) => {
                return Err(PyTimeoutError::new_err("another thread did not finish its reservation in time"));
            }
            Obstacle::Pinned(first, count, pins) if is_late(looks) => {
                return Err(LaneFull::new_err(format!(
                    "lane {} is full: slots {first} to {} are completed, but {pins} array(s) or ticket(s) still look at them; \
                     drop those (`del results`), take copies (copy=True), or open the lane deeper than {} slots",
                    self.number,
                    first + count - 1,
                    self.client.geometry().depth_slots
                )));
            }
            Obstacle::Reservation(_) => patience.deadline,
            Obstacle::Pinned(..) => looks,
        };
        py.detach(|| self.client.wait_freed(next_look(until).saturating_duration_since(Instant::now())));
        py.check_signals()
    }
}
