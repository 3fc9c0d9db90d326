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
    /// Slots at which it no longer looks: results from here on it wants to find.
    pub released: u64,
    /// Events that it has taken out of the ring.
    pub events_read: u64,
    /// Number of the last event that it has taken.
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
        let Claim { released, event_number, .. } = *claim;
        if released > self.slots {
            return Err(format!("the client says that it looked at {released} slots, and the journal has {}", self.slots));
        }
        if self.slots - released > self.results.len() as u64 {
            let first = self.slots - self.results.len() as u64;
            return Err(format!("the client says that it looked at {released} slots only, and it had released {first}"));
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
        self.intake = Intake::resumed(depth, kept.slots, claim.released);
        let words = [
            (requests_word::SUBMITTED, kept.slots),
            (requests_word::RELEASED, self.intake.released()),
            (requests_word::EVENTS_READ, claim.events_read),
        ];
        words.into_iter().try_for_each(|(offset, value)| self.requests.set_word(offset, value))?;
        let skip = kept.results.len() - (kept.slots - claim.released) as usize;
        for (slot, result) in (claim.released..).zip(kept.results.range(skip..)) {
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

    /// What must be kept of the lane if its client is to go on later: results that it may still look at, and events that it
    /// has not taken, as far as no GAP stands behind them.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let (events, geometry) = (&self.events, self.geometry);
        let mut kept = Kept::new(geometry.depth_slots, geometry.event_capacity, self.intake.taken(), events.number);
        let mut results = vec![OrderResult::zeroed(); (self.intake.taken() - self.intake.released()) as usize];
        if !results.is_empty() {
            self.result_ring.read(self.intake.released(), bytemuck::cast_slice_mut(&mut results));
        }
        kept.results = results.into();
        let mut last = vec![OrderEvent::zeroed(); (events.written - events.room.read()) as usize];
        if !last.is_empty() {
            events.ring.read(events.room.read(), bytemuck::cast_slice_mut(&mut last));
        }
        let whole = (0..)
            .zip(last.iter().rev())
            .take_while(|(back, event)| event.kind != EventKind::Gap as u8 && event.number + back == events.number);
        let count = whole.count();
        kept.last_events = last.split_off(last.len() - count).into();
        kept
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
        let claim = |released, event_number| kept().check(&Claim { released, event_number, ..Claim::default() });
        assert!(claim(46, 0).is_ok() && claim(110, 105).is_ok());
        assert!(claim(111, 0).unwrap_err().contains("the journal has 110"));
        assert!(claim(45, 0).unwrap_err().contains("it had released 46"));
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
