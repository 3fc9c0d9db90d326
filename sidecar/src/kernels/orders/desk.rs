//! What every op works with beside its book: the store, the asking account's limits, who asks, and where events go.

use ringlane_layout::orders::{CancelReason, EventKind};

use super::Outgoing;
use super::accounts::Accounts;
use super::attributes::STOP;
use super::limits::Limits;
use super::matching::fill_event;
use super::store::Store;
use super::tallies::Tallies;

/// Who asks, and under which number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) sequence: u64,
    pub(super) lane: u32,
}

/// See the module.
pub(super) struct Desk<'a> {
    pub(super) store: &'a mut Store,
    pub(super) accounts: &'a Accounts,
    /// Counts of accounts in all symbols as they stood before this request; in a batch that is matched in parallel, before the batch.
    pub(super) tallies: &'a Tallies,
    /// Limits of the account whose order is dealt with.
    pub(super) limits: &'a Limits,
    pub(super) entry: Entry,
    pub(super) out: &'a mut Vec<Outgoing>,
    /// Work beyond the request itself is added here.
    pub(super) work: &'a mut u64,
}

/// What an order's owner is told.
pub(super) struct Told {
    pub(super) kind: EventKind,
    pub(super) reason: Option<CancelReason>,
    /// Of the fill; none: the order's own.
    pub(super) price: Option<i64>,
    pub(super) quantity: u32,
    pub(super) remaining: u32,
}

impl Told {
    pub(super) fn new(kind: EventKind, quantity: u32, remaining: u32) -> Self {
        Self { kind, reason: None, price: None, quantity, remaining }
    }

    pub(super) fn cancel(reason: CancelReason, quantity: u32, remaining: u32) -> Self {
        Self { reason: Some(reason), ..Self::new(EventKind::Cancel, quantity, remaining) }
    }
}

impl Desk<'_> {
    /// Tells the owner of the order at `at`, if it has one.
    pub(super) fn tell(&mut self, at: u32, symbol: u32, k: u32, told: &Told) {
        let order = self.store.orders.get(at);
        if order.lane == 0 {
            return;
        }
        let mut event = fill_event(order, symbol, self.entry.sequence, k, (told.quantity, told.remaining));
        event.kind = told.kind as u8;
        event.reason = told.reason.map_or(0, |reason| reason as u16);
        event.price = told.price.unwrap_or_else(|| if order.has(STOP) && self.store.rare(at).is_market { 0 } else { order.price() });
        self.out.push(Outgoing { lane: order.lane, event });
    }
}
