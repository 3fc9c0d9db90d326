//! Orders that end by other hands than one request for them: mass cancels, administrators, time. What ends together ends in
//! the order of entry, and each owner is told.

use ringlane_layout::orders::{CancelReason, TimeRecord};

use super::attributes::DAY;
use super::desk::{Desk, Entry, Told};
use super::lanes::Grant;
use super::limits::Limits;
use super::shard::{Shard, Shards, index_of, shard_of};
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
    /// The orders that it names, in the order of their entry. Adds what was looked at to `work`.
    fn find(&self, shards: &Shards, work: &mut u64) -> Vec<Ending> {
        let mut found = Vec::new();
        let mut look = |store: &Store, part: usize, at: u32| {
            *work += 1;
            let order = store.orders.get(at);
            let is_meant = order.is_live()
                && self.account.is_none_or(|account| account == order.account)
                && self.lane.is_none_or(|lane| lane == order.lane)
                && self.grant.permits(order.account);
            if is_meant {
                found.push((order.order_id, part, at));
            }
        };
        if self.symbol.is_none() && self.account.is_none() {
            for (part, shard) in shards.all().iter().enumerate() {
                (0..shard.store.orders.used()).for_each(|at| look(&shard.store, part, at));
            }
        } else {
            let (first, last) = self.symbol.map_or((1, shards.book_count()), |symbol| (symbol, symbol));
            for (book, store) in (first..=last).filter_map(|symbol| shards.book(symbol)) {
                let holding = self.account.map(|account| book.holding(store, account, NIL));
                if holding.is_some_and(|at| at == NIL || store.holdings.get(at).open == [0, 0]) {
                    continue;
                }
                let mut look = |at: u32| look(store, shard_of(book.symbol), at);
                book.sides.iter().for_each(|side| side.walk(&store.orders).for_each(&mut look));
                book.stops.iter().for_each(|stops| stops.all().for_each(&mut look));
            }
        }
        found.sort_unstable();
        found
    }
}

/// Order id, number of the part, and slab index there.
type Ending = (u64, usize, u32);

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
        let found = selection.find(&self.shards, work);
        self.end(entry, &found, reason, out, work);
        found.len() as u32
    }

    /// Cancels these orders and tells their owners.
    fn end(&mut self, entry: Entry, found: &[Ending], reason: CancelReason, out: &mut Vec<Outgoing>, work: &mut u64) {
        let Self { shards, accounts, tallies, .. } = self;
        for (k, (_, part, at)) in (0..).zip(found) {
            let Shard { books, store, .. } = &mut shards.all_mut()[*part];
            let position = store.orders.get(*at).position;
            let symbol = store.holdings.get(position).symbol;
            let total = store.total(*at);
            let mut desk = Desk { store, accounts, tallies, limits: &Limits::NONE, entry, out, work };
            desk.tell(*at, symbol, k, &Told::cancel(reason, total, 0));
            books[index_of(symbol) as usize].cancel(desk.store, *at);
            *work += 1;
        }
        self.count_all_changes();
    }

    /// Sequenced time advances, and orders expire: GTD orders whose time is reached and, when a day ends, DAY orders. Their
    /// owners are told, in the order of entry. Returns the work.
    ///
    /// # Errors
    /// When the time would go back; nothing has changed then.
    pub fn advance(&mut self, sequence: u64, time: &TimeRecord, out: &mut Vec<Outgoing>) -> Result<u64, String> {
        if time.time_ns < self.now_ns {
            return Err(format!("time cannot go back from {} to {} ns", self.now_ns, time.time_ns));
        }
        self.set_now(time.time_ns);
        let (mut found, mut work): (Vec<Ending>, u64) = (Vec::new(), 1);
        for (part, store) in self.shards.all().iter().map(|shard| &shard.store).enumerate() {
            found.extend(store.attributes.expired(time.time_ns).map(|(order_id, at)| (order_id, part, at)));
            let mut left = if time.ends_day == 0 { 0 } else { store.attributes.day_orders };
            for at in 0..store.orders.used() {
                if left == 0 {
                    break;
                }
                work += 1;
                let order = store.orders.get(at);
                if order.is_live() && order.has(DAY) {
                    found.push((order.order_id, part, at));
                    left -= 1;
                }
            }
        }
        found.sort_unstable();
        self.end(Entry { sequence, lane: 0 }, &found, CancelReason::Expired, out, &mut work);
        Ok(work)
    }

    /// Tells every part the time.
    pub(super) fn set_now(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.shards.all_mut().iter_mut().for_each(|shard| shard.store.now_ns = now_ns);
    }

    /// Sequenced time, nanoseconds since 1970; 0 before the first time record.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// When time must be told next: a GTD order ends, or a second in which rates were counted. None: nothing waits for time.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        let expiry_ns = self.shards.all().iter().filter_map(|shard| shard.store.attributes.next_expiry_ns()).min();
        let rates_ns = self.tallies.next_due_ns(self.now_ns);
        expiry_ns.into_iter().chain(rates_ns).min()
    }

    /// Orders that expire when a trading day ends.
    #[must_use]
    pub fn day_orders(&self) -> u64 {
        self.shards.all().iter().map(|shard| shard.store.attributes.day_orders).sum()
    }
}
