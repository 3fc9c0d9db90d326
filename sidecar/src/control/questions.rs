//! Questions about the state are answered by the sequencer, in time that it takes from orders, and told by the control thread, on a
//! core that others need too. Each user has a small share of that time; who asks for more is answered later, while its connection
//! waits, and nobody else does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nix::sys::epoll::{EpollEvent, EpollFlags};
use ringlane_layout::limits::{QUESTION_ANSWER_REST, QUESTION_CREDIT_NS, QUESTION_NS, QUESTION_PS_A_BYTE, QUESTION_REST};

use super::Control;

/// Until when each user's questions have used up its share.
#[derive(Debug, Default)]
pub struct Questions {
    paid_until: HashMap<u32, Instant>,
}

impl Questions {
    /// Charges a user for what control spends on a question whose answer has so many bytes.
    pub fn charge_answer(&mut self, uid: u32, bytes: usize, now: Instant) {
        let price = Duration::from_nanos(QUESTION_NS + bytes as u64 * QUESTION_PS_A_BYTE / 1000);
        self.owe(uid, price * (1 + QUESTION_ANSWER_REST), now);
    }

    /// Charges a user for the time that the sequencer spent on its question.
    pub fn charge(&mut self, uid: u32, took: Duration, now: Instant) {
        self.owe(uid, took * (1 + QUESTION_REST), now);
    }

    fn owe(&mut self, uid: u32, time: Duration, now: Instant) {
        // Users who owe nothing are forgotten, so that only those who ask are remembered.
        self.paid_until.retain(|_, until| *until > now);
        let from = self.paid_until.get(&uid).copied().unwrap_or(now);
        self.paid_until.insert(uid, from + time);
    }

    /// When this user's next question is answered; none: at once.
    #[must_use]
    pub fn wait_until(&self, uid: u32, now: Instant) -> Option<Instant> {
        let until = *self.paid_until.get(&uid)?;
        let due = until.checked_sub(Duration::from_nanos(QUESTION_CREDIT_NS))?;
        (due > now).then_some(due)
    }
}

impl Control {
    /// Lets a client wait for its answer, and whatever else it sends in its socket.
    pub(super) fn hold(&mut self, client: u64) {
        if self.listen(client, EpollFlags::empty()) {
            self.held.push_back(client);
        }
    }

    /// Answers those whose time has come, each user's in the order in which they asked.
    pub(super) fn answer_held(&mut self) {
        for _ in 0..self.held.len() {
            let Some(client) = self.held.pop_front() else { return };
            let Some(session) = self.sessions.get_mut(&client) else { continue };
            if self.host.questions.wait_until(session.peer.uid, crate::world::now()).is_some() {
                self.held.push_back(client);
                continue;
            }
            match session.answer_held(&mut self.host) {
                Ok(()) => drop(self.listen(client, EpollFlags::EPOLLIN)),
                Err(why) => self.end(client, &why),
            }
        }
    }

    /// How long the next wait may be when somebody's answer is due before that.
    pub(super) fn held_patience(&self, patience: Duration) -> Duration {
        let now = crate::world::now();
        let due = |client: &u64| {
            let uid = self.sessions.get(client)?.peer.uid;
            Some(self.host.questions.wait_until(uid, now).map_or(Duration::ZERO, |due| due - now))
        };
        self.held.iter().filter_map(due).min().map_or(patience, |due| patience.min(due + Duration::from_millis(1)))
    }

    /// Sets what is heard of a client. False: it is gone.
    fn listen(&mut self, client: u64, what: EpollFlags) -> bool {
        let Some(session) = self.sessions.get(&client) else { return false };
        self.epoll.modify(&session.socket, &mut EpollEvent::new(what, client)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dear questions without a pause, for ten seconds of a clock that is made here: their share is kept, a user who asks
    /// little never waits, and nothing is remembered of who asks no more.
    #[test]
    fn a_user_has_its_share_and_no_more() {
        let (mut questions, start) = (Questions::default(), Instant::now());
        let (mut now, mut spent, took) = (start, Duration::ZERO, Duration::from_millis(7));
        while now - start < Duration::from_secs(10) {
            now = questions.wait_until(1, now).unwrap_or(now) + took;
            questions.charge(1, took, now);
            spent += took;
            assert_eq!(questions.wait_until(2, now), None);
        }
        let share = spent.as_secs_f64() / (now - start).as_secs_f64();
        assert!(share <= 1.05 / f64::from(1 + QUESTION_REST) && share > 0.5 / f64::from(1 + QUESTION_REST), "{share}");
        questions.charge(2, Duration::from_micros(5), now + Duration::from_secs(9));
        assert_eq!(questions.paid_until.len(), 1);
        assert_eq!(questions.wait_until(2, now + Duration::from_secs(9)), None, "a cheap question is not felt");
    }

    /// Questions that cost the sequencer nothing, one behind the other for ten seconds: control has its rest too, and long answers
    /// are dearer.
    #[test]
    fn control_spends_a_share_too() {
        for bytes in [0, 64 << 20] {
            let (mut questions, start, mut asked) = (Questions::default(), Instant::now(), 0_u64);
            let mut now = start;
            while now - start < Duration::from_secs(10) {
                now = questions.wait_until(1, now).unwrap_or(now);
                questions.charge_answer(1, bytes, now);
                asked += 1;
            }
            let price_ns = QUESTION_NS + bytes as u64 * QUESTION_PS_A_BYTE / 1000;
            let most = 10_050_000_000 / (price_ns * u64::from(1 + QUESTION_ANSWER_REST)) + 2;
            assert!((most / 2..=most).contains(&asked), "{asked} answers of {bytes} bytes, of {most}");
        }
    }
}
