//! A lane whose client is away: what is kept for it, what its client must say when it comes back, and how fresh regions are
//! filled so that it goes on exactly where it was. Whose lane it is, is not decided here.

use std::collections::VecDeque;

use bytemuck::Zeroable;
use ringlane_layout::orders::{EventKind, OrderEvent, OrderResult};
use ringlane_layout::region::requests_word;
use ringlane_layout::ring::{EventRoom, Intake};

use super::Lane;

/// What a client says of itself when it comes back: allegations, until the journal agrees.
#[derive(Debug, Clone, Copy, Default)]
pub struct Claim {
    /// Slots whose results it can read in the mapping that it has.
    pub completed: u64,
    /// Places of the event ring that it has used.
    pub events_read: u64,
    /// Number of the last event that it has.
    pub event_number: u64,
}

/// What is kept of a lane: no more than its rings hold.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    depth_slots: usize,
    event_capacity: usize,
    /// Slots that are journaled.
    pub slots: u64,
    /// Number of the last event.
    pub events: u64,
    /// The last results, up to slot `slots`.
    pub results: VecDeque<OrderResult>,
    /// The last events, up to number `events`.
    pub last_events: VecDeque<OrderEvent>,
}

impl Kept {
    /// A lane of which `slots` slots are journaled and `events` events numbered.
    #[must_use]
    pub fn new(depth_slots: u64, event_capacity: u64, slots: u64, events: u64) -> Self {
        Self { depth_slots: depth_slots as usize, event_capacity: event_capacity as usize, slots, events, ..Self::default() }
    }

    /// Notes the results of the next slots.
    pub fn add_results(&mut self, results: &[OrderResult]) {
        self.slots += results.len() as u64;
        self.results.extend(results);
        let more = self.results.len().saturating_sub(self.depth_slots);
        self.results.drain(..more);
    }

    /// Numbers an event.
    pub fn add_event(&mut self, event: OrderEvent) {
        self.events += 1;
        if self.last_events.len() >= self.event_capacity {
            self.last_events.pop_front();
        }
        self.last_events.push_back(OrderEvent { number: self.events, ..event });
    }

    /// Whether the client's word can be true. The journal's counts; words say where they differ.
    pub fn check(&self, claim: &Claim) -> Result<(), String> {
        let Claim { completed, event_number, .. } = *claim;
        if completed > self.slots {
            return Err(format!("the client says that {completed} slots were completed, and the journal has {}", self.slots));
        }
        if self.slots - completed > self.results.len() as u64 {
            let first = self.slots - self.results.len() as u64;
            return Err(format!("the client says that {completed} slots were completed, and it was told of {first}"));
        }
        if event_number > self.events {
            return Err(format!("the client says that it has event {event_number}, and the journal has {}", self.events));
        }
        Ok(())
    }

    /// The events behind `number` that fit: a GAP first, where some are kept no more.
    fn events_behind(&self, number: u64) -> impl Iterator<Item = OrderEvent> {
        let wanted = (self.events - number) as usize;
        let is_whole = wanted <= self.last_events.len();
        let count = if is_whole { wanted } else { self.last_events.len().min(self.event_capacity.saturating_sub(1)) };
        let gap =
            OrderEvent { number: self.events - count as u64, sequence: number + 1, kind: EventKind::Gap as u8, ..OrderEvent::zeroed() };
        let kept = self.last_events.range(self.last_events.len() - count..).copied();
        (!is_whole).then_some(gap).into_iter().chain(kept)
    }
}

impl Lane {
    /// Fills a fresh lane, which no client has yet, as its client left off. `claim` is checked.
    pub fn resume(&mut self, kept: &Kept, claim: &Claim) -> Result<(), String> {
        let depth = self.geometry.depth_slots;
        self.intake = Intake::resumed(depth, kept.slots, kept.slots.saturating_sub(depth));
        let words = [
            (requests_word::SUBMITTED, kept.slots),
            (requests_word::RELEASED, self.intake.released()),
            (requests_word::EVENTS_READ, claim.events_read),
        ];
        words.into_iter().try_for_each(|(offset, value)| self.requests.set_word(offset, value))?;
        let skip = kept.results.len() - (kept.slots - claim.completed) as usize;
        for (slot, result) in (claim.completed..).zip(kept.results.range(skip..)) {
            self.result_ring.write(slot, bytemuck::bytes_of(result));
        }
        let events = &mut self.events;
        events.room = EventRoom::resumed(self.geometry.event_capacity, claim.events_read);
        (events.number, events.written, events.published) = (kept.events, claim.events_read, claim.events_read);
        kept.events_behind(claim.event_number).for_each(|event| events.put(&event));
        // The words of the fresh page are zero, also where there is nothing to tell.
        let results = self.results.bytes();
        let words = ringlane_layout::ring::SidecarWords::of(&results);
        words.events_published.store(claim.events_read, std::sync::atomic::Ordering::Release);
        self.complete();
        self.publish_events();
        Ok(())
    }

    /// Number of the last event, dropped ones included.
    #[must_use]
    pub fn event_number(&self) -> u64 {
        self.events.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let mut kept = Kept::new(64, 64, 10, 5);
        for n in 0..100 {
            kept.add_results(&[OrderResult { sequence: n, ..OrderResult::default() }]);
            kept.add_event(OrderEvent { sequence: n, ..OrderEvent::zeroed() });
        }
        kept
    }

    #[test]
    fn no_more_is_kept_than_the_rings_hold() {
        let kept = kept();
        assert_eq!((kept.slots, kept.events, kept.results.len(), kept.last_events.len()), (110, 105, 64, 64));
        assert_eq!((kept.results[0].sequence, kept.last_events[0].number), (36, 42));
    }

    #[test]
    fn what_contradicts_the_journal_is_refused_in_words() {
        let claim = |completed, event_number| kept().check(&Claim { completed, event_number, ..Claim::default() });
        assert!(claim(46, 0).is_ok() && claim(110, 105).is_ok());
        assert!(claim(111, 0).unwrap_err().contains("the journal has 110"));
        assert!(claim(45, 0).unwrap_err().contains("it was told of 46"));
        assert!(claim(110, 106).unwrap_err().contains("the journal has 105"));
    }

    #[test]
    fn events_go_on_without_gap_or_tell_it() {
        let kept = kept();
        let numbers = |number| kept.events_behind(number).map(|event| (event.kind, event.number)).collect::<Vec<_>>();
        assert_eq!(numbers(105), []);
        assert_eq!(numbers(103), [(0, 104), (0, 105)]);
        assert_eq!((numbers(41).len(), numbers(41)[0]), (64, (0, 42)));
        let gapped = numbers(40);
        assert_eq!((gapped.len(), gapped[0], gapped[1]), (64, (EventKind::Gap as u8, 42), (0, 43)));
        assert_eq!(kept.events_behind(40).next().unwrap().sequence, 41, "the first number that the gap stands for");
    }
}
