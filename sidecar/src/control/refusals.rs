//! Refusals as the operator sees them: each is counted, and told with uid and pid in at most one log line a second and user.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ringlane_layout::board::control;
use ringlane_layout::limits::OVERFLOW_UID;

use super::messages::Refusal;
use super::peer::Peer;
use crate::board::BoardRow;

/// Time between two lines about one user.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// Users that are remembered; more than can be connected.
const USERS_MAX: usize = 4096;

/// Counts and tells refusals.
#[derive(Default)]
pub struct Refusals {
    /// The control thread's row of the board.
    counters: Option<BoardRow>,
    users: HashMap<u32, Told>,
}

struct Told {
    at: Instant,
    untold: u64,
}

impl Refusals {
    /// Refusals that are counted in the control thread's row.
    #[must_use]
    pub fn new(counters: BoardRow) -> Self {
        Self { counters: Some(counters), users: HashMap::new() }
    }

    /// Counts a refusal, and tells it unless this user's last one was just told.
    pub fn note(&mut self, peer: &Peer, refusal: &Refusal) {
        self.counters.iter().for_each(|row| row.add(control::REFUSED, 1));
        if let Some(untold) = self.due(peer.uid, Instant::now()) {
            let (uid, pid, code) = (peer.uid, peer.pid, refusal.code);
            tracing::warn!(uid, pid, code, untold, "refused: {}", refusal.words);
        }
    }

    /// Counts a peer of whom nothing is known, and tells of it.
    pub fn note_stranger(&mut self, why: &str) {
        self.counters.iter().for_each(|row| row.add(control::REFUSED, 1));
        if let Some(untold) = self.due(OVERFLOW_UID, Instant::now()) {
            tracing::warn!(untold, "a client was turned away: {why}");
        }
    }

    /// Whether a line about this user is due, and how many refusals were not told since the last.
    fn due(&mut self, uid: u32, now: Instant) -> Option<u64> {
        if self.users.len() >= USERS_MAX {
            self.users.retain(|_, told| now.duration_since(told.at) < LINE_EVERY);
        }
        let is_full = self.users.len() >= USERS_MAX;
        match self.users.get_mut(&uid) {
            Some(told) if now.duration_since(told.at) < LINE_EVERY => {
                told.untold += 1;
                None
            }
            Some(told) => {
                told.at = now;
                Some(std::mem::take(&mut told.untold))
            }
            // All are fresh: more users than can be connected came within a second. They are counted.
            None if is_full => None,
            None => {
                self.users.insert(uid, Told { at: now, untold: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_user_says_how_many_were_not_told() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(refusals.due(7, at(0)), Some(0));
        assert_eq!([10, 20, 999].map(|millis| refusals.due(7, at(millis))), [None; 3]);
        assert_eq!(refusals.due(8, at(30)), Some(0));
        assert_eq!(refusals.due(7, at(1000)), Some(3));
        assert_eq!(refusals.due(7, at(2500)), Some(0));
        for uid in 0..2 * USERS_MAX as u32 {
            let _ = refusals.due(uid, at(2600));
        }
        assert!(refusals.users.len() <= USERS_MAX);
        assert_eq!(refusals.due(70_000, at(5000)), Some(0));
    }
}
