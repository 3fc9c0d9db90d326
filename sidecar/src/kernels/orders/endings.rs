//! Orders that end by other hands than one request for them: mass cancels, administrators, time. What ends together ends in
//! the order of entry, and each owner is told.

use ringlane_layout::orders::{CancelReason, TimeRecord};

use super::attributes::DAY;
use super::book::Book;
use super::desk::{Desk, Entry, Told};
use super::lanes::Grant;
use super::limits::Limits;
use super::slab::NIL;
use super::store::Store;
use super::{OrderKernel, Outgoing};

/// Which orders end. What is none, or `Grant::ALL`, restricts nothing.
pub(super) struct Selection {
    pub(super) symbol: Option<u32>,
    pub(super) account: Option<u32>,
    pub(super) lane: Option<u32>,
    pub(super) grant: Grant,
}

impl Selection {
    /// Order id and slab index of the orders that it names, in the order of their entry. Adds what was looked at to `work`.
    fn find(&self, books: &[Book], store: &Store, work: &mut u64) -> Vec<(u64, u32)> {
        let mut found = Vec::new();
        let mut look = |at: u32| {
            *work += 1;
            let order = store.orders.get(at);
            let is_meant = order.is_live()
                && self.account.is_none_or(|account| account == order.account)
                && self.lane.is_none_or(|lane| lane == order.lane)
                && self.grant.permits(order.account);
            if is_meant {
                found.push((order.order_id, at));
            }
        };
        if self.symbol.is_none() && self.account.is_none() {
            (0..store.orders.used()).for_each(look);
        } else {
            let first = self.symbol.map_or(0, |symbol| symbol as usize - 1);
            for book in &books[first..self.symbol.map_or(books.len(), |symbol| symbol as usize)] {
                let holding = self.account.map(|account| book.holding(store, account, NIL));
                if holding.is_some_and(|at| at == NIL || store.holdings.get(at).open == [0, 0]) {
                    continue;
                }
                book.sides.iter().for_each(|side| side.walk(&store.orders).for_each(&mut look));
                book.stops.iter().for_each(|stops| stops.all().for_each(&mut look));
            }
        }
        found.sort_unstable();
        found
    }
}

/// Cancels these orders and tells their owners.
fn end(books: &mut [Book], desk: &mut Desk, found: &[(u64, u32)], reason: CancelReason) {
    for (k, (_, at)) in (0..).zip(found) {
        let position = desk.store.orders.get(*at).position;
        let symbol = desk.store.holdings.get(position).symbol;
        let total = desk.store.total(*at);
        desk.tell(*at, symbol, k, &Told::cancel(reason, total, 0));
        books[symbol as usize - 1].cancel(desk.store, *at);
        *desk.work += 1;
    }
}

impl OrderKernel {
    /// Cancels the orders of a selection; says how many they were.
    pub(super) fn end_selected(
        &mut self,
        entry: Entry,
        selection: &Selection,
        reason: CancelReason,
        out: &mut Vec<Outgoing>,
        work: &mut u64,
    ) -> u32 {
        let found = selection.find(&self.books, &self.store, work);
        let mut desk = Desk { store: &mut self.store, accounts: &self.accounts, limits: &Limits::NONE, entry, out, work };
        end(&mut self.books, &mut desk, &found, reason);
        found.len() as u32
    }

    /// Sequenced time advances, and orders expire: GTD orders whose time is reached and, when a day ends, DAY orders. Their
    /// owners are told, in the order of entry. Returns the work.
    ///
    /// # Errors
    /// When the time would go back; nothing has changed then.
    pub fn advance(&mut self, sequence: u64, time: &TimeRecord, out: &mut Vec<Outgoing>) -> Result<u64, String> {
        if time.time_ns < self.store.now_ns {
            return Err(format!("time cannot go back from {} to {} ns", self.store.now_ns, time.time_ns));
        }
        self.store.now_ns = time.time_ns;
        let mut found: Vec<_> = self.store.attributes.expired(time.time_ns).collect();
        let mut work = 1;
        let mut left = if time.ends_day == 0 { 0 } else { self.store.attributes.day_orders };
        for at in 0..self.store.orders.used() {
            if left == 0 {
                break;
            }
            work += 1;
            let order = self.store.orders.get(at);
            if order.is_live() && order.has(DAY) {
                found.push((order.order_id, at));
                left -= 1;
            }
        }
        found.sort_unstable();
        let entry = Entry { sequence, lane: 0 };
        let mut desk = Desk { store: &mut self.store, accounts: &self.accounts, limits: &Limits::NONE, entry, out, work: &mut work };
        end(&mut self.books, &mut desk, &found, CancelReason::Expired);
        Ok(work)
    }

    /// Sequenced time, nanoseconds since 1970; 0 before the first time record.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.store.now_ns
    }

    /// When time must be told next: a GTD order ends, or a second in which rates were counted. None: nothing waits for time.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        let expiry_ns = self.store.attributes.next_expiry_ns();
        let rates_ns = self.store.tallies.next_due_ns(self.store.now_ns);
        expiry_ns.into_iter().chain(rates_ns).min()
    }

    /// Orders that expire when a trading day ends.
    #[must_use]
    pub fn day_orders(&self) -> u64 {
        self.store.attributes.day_orders
    }
}
