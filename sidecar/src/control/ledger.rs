//! What clients hold, and what they may hold: connections, lanes and memory, for each user and in all. A lane is charged in full
//! before its memory is reserved, and until the kernel says that nobody has that memory any more: closing a lane frees nothing
//! for a client that keeps its descriptors.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ringlane_layout::limits::{CLIENTS_MAX, KEPT_MAX, KEPT_REPLIES_MAX, KEPT_SWEPT_FROM};

use super::access::Grant;
use super::memory::available_bytes;
use super::messages::Refusal;
use crate::lanes::Memory;

/// Who holds what.
pub struct Ledger {
    bytes: u64,
    bytes_max: u64,
    users: HashMap<u32, Usage>,
    /// What the sidecar is through with and somebody else may still have.
    kept: Vec<Kept>,
    /// When the last sweep ended, and how long it took.
    swept: (Instant, Duration),
}

/// What one user holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Usage {
    clients: usize,
    lanes: usize,
    replies: usize,
    bytes: u64,
}

/// A charge: what a user pays for until it is free.
#[derive(Debug, Clone, Copy)]
pub struct Charge {
    uid: u32,
    bytes: u64,
    /// A lane, or else a reply of rows.
    is_lane: bool,
}

struct Kept {
    charge: Charge,
    memory: Vec<Memory>,
}

/// Memory that stays free on the host beside what a lane takes, bytes.
const HEADROOM_BYTES: u64 = 16 << 20;

impl Ledger {
    /// A ledger without entries.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes: 0, bytes_max, users: HashMap::new(), kept: Vec::new(), swept: (crate::world::now(), Duration::ZERO) }
    }

    /// What all hold, and the most that they may hold, bytes.
    #[must_use]
    pub const fn held(&self) -> (u64, u64) {
        (self.bytes, self.bytes_max)
    }

    /// Changes the most that all may hold; gives what it was. What is held already stays.
    pub fn set_bytes_max(&mut self, bytes_max: u64) -> u64 {
        std::mem::replace(&mut self.bytes_max, bytes_max)
    }

    /// Counts a connection in.
    pub fn admit(&mut self, uid: u32, grant: &Grant) -> Result<(), Refusal> {
        let all: usize = self.users.values().map(|usage| usage.clients).sum();
        let usage = self.users.entry(uid).or_default();
        if usage.clients >= grant.clients_max {
            let words = format!("user {uid} has {} connections, the most it may have (clients_max); close one", usage.clients);
            return Err(Refusal::new("QUOTA", words));
        }
        if all >= CLIENTS_MAX {
            return Err(Refusal::new("QUOTA", format!("{CLIENTS_MAX} clients are connected, the most that a sidecar serves")));
        }
        usage.clients += 1;
        Ok(())
    }

    /// Counts a connection out.
    pub fn dismiss(&mut self, uid: u32) {
        if let Some(usage) = self.users.get_mut(&uid) {
            usage.clients -= 1;
        }
        self.forget(uid);
    }

    /// Charges a lane before its memory is reserved.
    pub fn charge_lane(&mut self, uid: u32, bytes: u64, grant: &Grant) -> Result<Charge, Refusal> {
        if self.lane_fits(uid, bytes, grant).is_err() {
            // What was given back since the last look makes room.
            self.sweep();
        }
        self.lane_fits(uid, bytes, grant)?;
        Ok(self.charge(Charge { uid, bytes, is_lane: true }))
    }

    fn lane_fits(&self, uid: u32, bytes: u64, grant: &Grant) -> Result<(), Refusal> {
        let usage = self.users.get(&uid).copied().unwrap_or_default();
        let quota = |words: String| Err(Refusal::new("QUOTA", words));
        if usage.lanes >= grant.lanes_max {
            return quota(format!(
                "user {uid} has {} lanes, the most it may have (lanes_max); closed ones count until nobody maps them",
                usage.lanes
            ));
        }
        if usage.bytes.saturating_add(bytes) > grant.bytes_max {
            let (held, max) = (usage.bytes, grant.bytes_max);
            return quota(format!(
                "the lane needs {bytes} bytes, and user {uid} holds {held} of its {max} (bytes_max); open a shallower lane"
            ));
        }
        if self.kept.len() >= KEPT_MAX {
            return quota(format!("{KEPT_MAX} closed lanes and replies are still held by clients; unmap them and close their descriptors"));
        }
        if self.bytes.saturating_add(bytes) > self.bytes_max {
            let (held, max) = (self.bytes, self.bytes_max);
            return quota(format!(
                "the lane needs {bytes} bytes, and {held} of the {max} of lanes.bytes_max are taken; open a shallower lane"
            ));
        }
        match available_bytes() {
            Some(free) if free < bytes.saturating_add(HEADROOM_BYTES) => Err(Refusal::new(
                "MEMORY",
                format!("the lane needs {bytes} bytes, and {free} are free for the sidecar on this host; open a shallower lane"),
            )),
            _ => Ok(()),
        }
    }

    /// Charges the rows of a reply, which are the client's as soon as they are sent.
    pub fn charge_reply(&mut self, uid: u32, bytes: u64, memory: Memory) -> Result<(), Refusal> {
        let held = |ledger: &Self| ledger.users.get(&uid).map_or(0, |usage| usage.replies) >= KEPT_REPLIES_MAX;
        // Long before the most: a client that asks as fast as it can has given most of them back.
        if self.kept.len() >= KEPT_SWEPT_FROM {
            self.sweep();
        }
        if held(self) || self.kept.len() >= KEPT_MAX {
            let words = format!("user {uid} still has the descriptors of {KEPT_REPLIES_MAX} earlier answers; close them first");
            return Err(Refusal::new("QUOTA", words));
        }
        let charge = self.charge(Charge { uid, bytes, is_lane: false });
        self.kept.push(Kept { charge, memory: vec![memory] });
        Ok(())
    }

    fn charge(&mut self, charge: Charge) -> Charge {
        let usage = self.users.entry(charge.uid).or_default();
        *(if charge.is_lane { &mut usage.lanes } else { &mut usage.replies }) += 1;
        usage.bytes += charge.bytes;
        self.bytes += charge.bytes;
        charge
    }

    /// Takes a charge back at once: its memory never left the sidecar.
    pub fn refund(&mut self, charge: Charge) {
        let usage = self.users.entry(charge.uid).or_default();
        *(if charge.is_lane { &mut usage.lanes } else { &mut usage.replies }) -= 1;
        usage.bytes -= charge.bytes;
        self.bytes -= charge.bytes;
        self.forget(charge.uid);
    }

    /// The sidecar is through with this memory; the charge ends when everybody is.
    pub fn keep(&mut self, charge: Charge, memory: impl Into<Vec<Memory>>) {
        self.kept.push(Kept { charge, memory: memory.into() });
    }

    /// Ends the charges of memory that nobody has any more. It takes a tenth of the control thread's time at most, however
    /// much is kept and however often it is asked for.
    pub fn sweep(&mut self) {
        let (ended, took) = self.swept;
        // A sweep that lost its core must not put off the next for long: an honest client asks 200 times in 5 ms.
        if self.kept.is_empty() || (crate::world::now() - ended) < (took * 9).min(Duration::from_millis(5)) {
            return;
        }
        let began = crate::world::now();
        for index in (0..self.kept.len()).rev() {
            if self.kept[index].memory.iter().all(Memory::is_free) {
                let charge = self.kept.swap_remove(index).charge;
                self.refund(charge);
            }
        }
        self.swept = (crate::world::now(), crate::world::now() - began);
    }

    /// A user that holds nothing is not remembered: the table has a maximum that way.
    fn forget(&mut self, uid: u32) {
        if self.users.get(&uid) == Some(&Usage::default()) {
            self.users.remove(&uid);
        }
    }
}
