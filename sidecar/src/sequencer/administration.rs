//! What administrators ask of the sequencer, and the time records that it writes when something is due. Each is applied,
//! journaled, and only then told.

use ringlane_layout::orders::{AccountLimits, AdminAction, Instrument, TimeRecord};
use ringlane_layout::record::{Record, RecordBytes};
use ringlane_layout::region::LaneStatus;

use super::turns::Closing;
use super::{Sequencer, meta, wall_clock_ns};
use crate::engine::Engine;
use crate::journal::FrameKind;

/// What an administrator asks for.
#[derive(Debug, Clone, Copy)]
pub enum Administration {
    /// A halt, its end, or a cancel.
    Act(AdminAction),
    /// Limits of accounts.
    Limits(AccountLimits),
    /// Another instrument; its number is given to it.
    Instrument(Instrument),
    /// A time record; true ends the trading day.
    Time(bool),
    /// The end of a lane.
    Disconnect(u32),
}

/// Applies a record; says what the answer counts.
type Apply<'a> = dyn FnOnce(&mut Engine) -> Result<u64, String> + 'a;

impl Sequencer {
    /// Does it, and gives a number: cancelled orders, the new symbol, or 0.
    #[cold]
    pub(super) fn administer(&mut self, administration: Administration) -> Result<u64, String> {
        if let Some(words) = self.why_blocked() {
            return Err(words);
        }
        match administration {
            Administration::Act(action) => {
                self.decide(FrameKind::Admin, &action, Box::new(|engine| engine.administer(&action).map(|(count, _)| count.into())))
            }
            Administration::Limits(limits) => {
                self.decide(FrameKind::Accounts, &limits, Box::new(|engine| engine.set_accounts(&limits).map(|()| 0)))
            }
            Administration::Instrument(instrument) => {
                let symbol = self.engine.orders.instruments().len() as u32 + 1;
                let instrument = Instrument { symbol, ..instrument };
                let apply = Box::new(|engine: &mut Engine| engine.add_instrument(&instrument).map(|()| symbol.into()));
                self.decide(FrameKind::Instruments, &instrument, apply)
            }
            Administration::Time(ends_day) => {
                self.now_ns = wall_clock_ns();
                self.tell_time(ends_day).map(|()| self.now_ns)
            }
            Administration::Disconnect(lane) => {
                let row = self.row_of(lane).ok_or_else(|| format!("there is no open lane {lane}"))?;
                self.close(row, Closing { left: 0, status: LaneStatus::Disconnected, answer: None });
                Ok(0)
            }
        }
    }

    /// Applies a record, journals it and publishes what it put out. A record that is refused is not journaled.
    fn decide<T: Record>(&mut self, kind: FrameKind, record: &T, apply: Box<Apply>) -> Result<u64, String> {
        let before = self.engine.next_sequence();
        let meta = meta(&self.engine, kind, 0, 0, T::SCHEMA_HASH, self.now_ns);
        // Room comes first: what the engine has decided must be in the journal.
        if self.journal.as_mut().is_some_and(|journal| !journal.make_room(&meta, 1)) {
            self.block();
            return Err(self.why_blocked().unwrap_or_else(|| "the journal has no room for the moment; try again".into()));
        }
        let answer = self.engine.decide(apply)?;
        assert!(self.engine.next_sequence() == before + 1, "one record has one number");
        let bytes: RecordBytes = bytemuck::pod_read_unaligned(bytemuck::bytes_of(record));
        if let Some(journal) = &mut self.journal {
            let appended = journal.append(&meta, 1, |records| records[0] = bytes);
            assert!(appended.is_ok(), "room was made");
        }
        self.send_events();
        self.publish_market();
        self.publish_events();
        Ok(answer)
    }

    /// Writes a time record. A clock that went back stands still.
    fn tell_time(&mut self, ends_day: bool) -> Result<(), String> {
        let time_ns = self.now_ns.max(self.engine.orders.now_ns());
        let time = TimeRecord { time_ns, ends_day: ends_day.into(), ..TimeRecord::default() };
        self.decide(FrameKind::Time, &time, Box::new(|engine| engine.advance(&time).map(|_| 0))).map(drop)
    }

    /// The journal knows that nothing was due until `told_ns`. What became due since then, while no sidecar ran, is told before
    /// any client is heard: the end of a trading day, and orders that expired.
    pub fn go_on_from(&mut self, told_ns: u64) {
        if told_ns > 0 {
            self.day_ends_ns = self.config.next_day_end_ns(told_ns);
        }
        self.now_ns = wall_clock_ns();
        self.tell_time_when_due();
    }

    /// Writes a time record when an order expires, or a second ends in which rates were counted; and ends the day at its hour.
    pub(super) fn tell_time_when_due(&mut self) {
        if self.is_blocked {
            return;
        }
        let now_ns = self.now_ns;
        let day_ended = now_ns >= self.day_ends_ns;
        let expires = day_ended && self.engine.orders.day_orders() > 0;
        let is_due = expires || self.engine.orders.next_due_ns().is_some_and(|due_ns| due_ns <= now_ns);
        // A record that finds no room in the journal is told when there is some.
        let told = if is_due { self.tell_time(expires) } else { Ok(()) };
        debug_assert!(told.is_ok() || self.is_blocked, "time does not go back");
        if day_ended && told.is_ok() {
            self.day_ends_ns = self.config.next_day_end_ns(now_ns);
        }
    }

    /// Milliseconds until time must be told next, at most `max_ms`.
    pub(super) fn due_within_ms(&self, max_ms: u64) -> u64 {
        let due_ns = self.engine.orders.next_due_ns().unwrap_or(u64::MAX).min(self.day_ends_ns);
        (due_ns.saturating_sub(wall_clock_ns()) / 1_000_000 + 1).min(max_ms)
    }
}
