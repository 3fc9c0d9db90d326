//! Lanes whose clients are away: after a start, those that were open in the journal. Each waits for its client for a while; then
//! it is closed as its client chose. What its orders earn meanwhile is kept for it.

use std::time::{Duration, Instant};

use ringlane_layout::limits::LANES_MAX;
use ringlane_layout::record::Record;
use ringlane_layout::region::LaneStatus;

use super::turns::Turn;
use super::{Sequencer, meta};
use crate::crash;
use crate::image::LaneImage;
use crate::journal::{FrameKind, LaneClose, LaneOpen};
use crate::lanes::{Claim, Kept, Lane};
use crate::world;

/// A lane without a client.
pub(super) struct Absent {
    pub(super) open: LaneOpen,
    pub(super) kept: Kept,
    /// When it is closed.
    until: Instant,
}

/// Who comes back, and to which lane.
#[derive(Debug, Clone, Copy)]
pub struct Return {
    /// Lane number.
    pub lane: u32,
    /// User id, proven by the kernel.
    pub uid: u32,
    /// Hash of the token that was presented.
    pub token_hash: u64,
    /// Where the client says that it was.
    pub claim: Claim,
}

impl Sequencer {
    /// Takes over the lanes that were open in the journal; their clients have this long to come back.
    pub fn expect(&mut self, lanes: Vec<(LaneOpen, Kept)>, grace: Duration) {
        self.grace = grace;
        let until = world::now() + grace;
        self.absent = lanes.into_iter().map(|(open, kept)| Absent { open, kept, until }).collect();
    }

    /// How the lane was opened, if it is this client's and waits for it.
    pub(super) fn find_absent(&self, back: &Return) -> Result<LaneOpen, String> {
        self.place_of(back).map(|place| self.absent[place].open)
    }

    /// Where among the absent it stands.
    fn place_of(&self, back: &Return) -> Result<usize, String> {
        let Return { lane, uid, token_hash, claim } = back;
        let Some((place, absent)) = self.absent.iter().enumerate().find(|(_, absent)| absent.open.lane == *lane) else {
            return Err(format!("lane {lane} does not wait for a client: it was never opened, is closed, or has its client"));
        };
        // One answer to both, so that nobody learns which of them was wrong.
        if (absent.open.uid, absent.open.token_hash) != (*uid, *token_hash) {
            return Err(format!("lane {lane} belongs to another user, or the token is not its own"));
        }
        absent.kept.check(claim).map_err(|words| format!("lane {lane}: {words}"))?;
        Ok(place)
    }

    /// Gives a lane its client back, in fresh regions. The answer is the number of slots that are journaled.
    pub(super) fn attach(&mut self, mut lane: Box<Lane>, back: &Return) -> Result<u64, String> {
        let place = self.place_of(back)?;
        crash::point("attach.before");
        let row = self.free_row()?;
        lane.resume(&self.absent[place].kept, &back.claim)?;
        self.hear_doorbell(&lane)?;
        let Absent { kept, .. } = self.absent.swap_remove(place);
        self.seat(row, lane);
        crash::point("attach.after");
        Ok(kept.slots)
    }

    /// A row for one lane more.
    pub(super) fn free_row(&mut self) -> Result<usize, String> {
        match self.lanes.iter().position(Option::is_none) {
            Some(row) => Ok(row),
            None if self.lanes.len() < LANES_MAX => {
                self.lanes.push(None);
                self.turns.push(Turn::default());
                Ok(self.lanes.len() - 1)
            }
            None => Err(format!("all {LANES_MAX} lanes of the sidecar are open")),
        }
    }

    /// Takes a lane into the round.
    pub(super) fn seat(&mut self, row: usize, mut lane: Box<Lane>) {
        let number = lane.number as usize;
        if self.rows.len() <= number {
            self.rows.resize(number + 1, u16::MAX);
        }
        self.rows[number] = row as u16;
        lane.busy = true;
        self.lanes[row] = Some(lane);
        self.turns[row] = Turn::default();
        self.introduce_lane(row);
        self.lane_count += 1;
        self.hot.push(row);
        self.heat.set_orders(true);
        self.heat.set_hot(true);
        self.publish_totals();
    }

    /// The sidecar stops: a lane that is drained stays open in the journal, and its client may come back after the next start.
    pub(super) fn suspend(&mut self, lane: &Lane) {
        let Some(open) = self.engine.open_lanes().iter().find(|open| open.lane == lane.number).copied() else { return };
        let kept = lane.kept();
        self.absent.push(Absent { open, kept, until: world::now() });
    }

    /// Closes the lanes whose clients did not come back.
    pub(super) fn end_absent(&mut self) {
        if self.absent.is_empty() || self.is_blocked || self.stopping {
            return;
        }
        let now = world::now();
        while let Some(index) = self.absent.iter().position(|absent| absent.until <= now) {
            // What orders leave free in a segment is for the lanes that have clients: these ones can wait.
            let meta = meta(&self.engine, FrameKind::Orders, 0, 0, LaneClose::SCHEMA_HASH, self.now_ns);
            if self.journal.as_mut().is_some_and(|journal| !journal.make_room(&meta, 1)) {
                return;
            }
            let Absent { open, .. } = self.absent.swap_remove(index);
            tracing::warn!(
                lane = open.lane,
                pid = open.pid,
                uid = open.uid,
                cancel = open.cancel_on_disconnect,
                "lane closed: its client did not come back"
            );
            let close = LaneClose {
                lane: open.lane,
                cancel_orders: u32::from(open.cancel_on_disconnect != 0),
                status: LaneStatus::NotBack as u64,
                ..LaneClose::default()
            };
            self.journal_close(&close);
            self.publish_totals();
        }
    }

    /// The lane table of a snapshot.
    pub(super) fn lane_images(&self) -> Vec<LaneImage> {
        let kept_of = |open: &LaneOpen| {
            if let Some(absent) = self.absent.iter().find(|absent| absent.open.lane == open.lane) {
                return Some(absent.kept.clone());
            }
            Some(self.lanes.get(self.row_of(open.lane)?)?.as_ref()?.kept())
        };
        let image = |open: &LaneOpen| {
            let kept = kept_of(open)?;
            let (results, kept_events) = (kept.results.into(), kept.last_events.into());
            Some(LaneImage { open: *open, slots: kept.slots, events: kept.events, results, kept_events })
        };
        self.engine.open_lanes().iter().filter_map(image).collect()
    }
}
