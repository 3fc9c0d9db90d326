//! How long somebody waits, and for what: deadlines, and what they mean when a lane has no room. Sleeping and exceptions
//! never enter here.

use crate::slots::Obstacle;
use std::time::{Duration, Instant};

/// Longest time between two looks at pending signals, so that Ctrl-C is never far.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// How long slots at which arrays still look are waited for when no timeout is given.
const LOOKS_GRACE: Duration = Duration::from_secs(1);

/// What to say to a thread that would wait for itself.
pub const ALREADY_FILLS: &str =
    "this thread already fills a reservation of this lane; leave its `with` block first (one reservation a lane)";

/// When a wait of at most `timeout_ns` that begins now ends. `None`: never.
#[must_use]
pub fn deadline_after(timeout_ns: Option<u64>) -> Option<Instant> {
    timeout_ns.and_then(|timeout| Instant::now().checked_add(Duration::from_nanos(timeout)))
}

/// Whether `deadline` is over.
#[must_use]
pub fn is_late(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// When a sleep that begins now must end to look at signals, or earlier at `deadline`.
#[must_use]
pub fn next_look(deadline: Option<Instant>) -> Instant {
    let look = Instant::now() + SIGNAL_CHECK_INTERVAL;
    deadline.map_or(look, |deadline| deadline.min(look))
}

/// How long somebody who wants slots waits.
#[derive(Debug)]
pub struct Patience {
    /// When all waiting ends.
    pub deadline: Option<Instant>,
    /// Whether there is any waiting.
    pub waits: bool,
    /// Only this process can end its looks at completed slots, and perhaps it is this very thread that should: without a
    /// deadline, these are waited for only so long.
    deadline_of_looks: Option<Instant>,
}

impl Patience {
    /// At most `timeout_ns` from now (`None`: without limit); not at all unless it `waits`.
    #[must_use]
    pub fn new(timeout_ns: Option<u64>, waits: bool) -> Self {
        let deadline = deadline_after(timeout_ns);
        Self { deadline, waits, deadline_of_looks: deadline }
    }

    /// When waiting for looks ends. The grace of those without a deadline begins with the first question.
    pub fn deadline_of_looks(&mut self) -> Option<Instant> {
        Some(*self.deadline_of_looks.get_or_insert_with(|| Instant::now() + LOOKS_GRACE))
    }
}

/// What to say when lane `lane` of `depth` slots has no room.
#[must_use]
pub fn full_words(obstacle: Obstacle, lane: u64, depth: u64) -> String {
    match obstacle {
        Obstacle::Pinned(first, count, pins) => format!(
            "lane {lane} is full: slots {first} to {} are completed, but {pins} array(s) or ticket(s) still look at them; drop \
             those (`del results`), take copies (copy=True), or open the lane deeper than {depth} slots",
            first + count - 1
        ),
        Obstacle::Unfinished(end) => format!(
            "lane {lane} is full: the sidecar is behind and has not completed slot {}; wait for results, or open the lane \
             deeper than {depth} slots",
            end - 1
        ),
        Obstacle::Reservation(_) => format!("lane {lane} has no room now: another thread fills a reservation"),
        Obstacle::Closed => format!("lane {lane} is closed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_deadline_looks_have_a_grace_from_the_first_question_on() {
        let mut patience = Patience::new(None, true);
        assert!(patience.deadline.is_none() && !is_late(patience.deadline));
        let before = Instant::now();
        let end = patience.deadline_of_looks();
        assert!(end >= Some(before + LOOKS_GRACE) && end == patience.deadline_of_looks());
    }

    #[test]
    fn a_deadline_holds_for_everything() {
        let mut patience = Patience::new(Some(0), true);
        let end = patience.deadline_of_looks();
        assert!(is_late(patience.deadline) && patience.deadline == end);
        assert_eq!(next_look(patience.deadline), patience.deadline.unwrap());
        assert!(next_look(None) > Instant::now());
        assert!(deadline_after(Some(u64::MAX)).is_none_or(|end| !is_late(Some(end))));
    }

    #[test]
    fn words_tell_who_holds_the_slots() {
        let owner = std::thread::current().id();
        for (obstacle, words) in [
            (Obstacle::Pinned(4, 4, 2), "slots 4 to 7 are completed, but 2 array(s)"),
            (Obstacle::Unfinished(9), "the sidecar is behind and has not completed slot 8"),
            (Obstacle::Reservation(owner), "another thread fills"),
            (Obstacle::Closed, "closed"),
        ] {
            assert!(full_words(obstacle, 3, 64).contains(words));
        }
    }
}
