//! Counts that some limits ask for: what an account's open orders are worth, how many they are, and how many orders it
//! entered in this second of sequenced time. Only accounts that have such limits are counted.

use std::collections::BTreeMap;

use ringlane_layout::orders::Side;

use super::book::slot;
use super::pages::Pages;

/// One second, nanoseconds: over which rates are counted.
const SECOND_NS: u64 = 1_000_000_000;

/// Counts of one account, in all symbols or in one.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// Price x open quantity of open orders: buys, sells.
    pub(super) notional: [u128; 2],
    pub(super) open_orders: u32,
    /// Orders accepted in second `second`.
    accepted: u32,
    second: u64,
}

impl Tally {
    /// Orders accepted in the second of `now_ns`.
    pub(super) fn rate(&self, now_ns: u64) -> u32 {
        if self.second == now_ns / SECOND_NS { self.accepted } else { 0 }
    }

    /// Counts an accepted order.
    pub(super) fn accept(&mut self, now_ns: u64) {
        self.accepted = self.rate(now_ns) + 1;
        self.second = now_ns / SECOND_NS;
    }

    /// Counts a change of an open order.
    pub(super) fn change(&mut self, (side, price, quantity, orders): Change) {
        let (worth, notional) = (price as u128 * u128::from(quantity.unsigned_abs()), &mut self.notional[slot(side)]);
        *notional = if quantity < 0 { *notional - worth } else { *notional + worth };
        self.open_orders = self.open_orders.wrapping_add_signed(orders);
    }

    /// Takes a rate over that was counted in the second of `now_ns`.
    pub(super) fn restore_rate(&mut self, accepted: u32, now_ns: u64) {
        (self.accepted, self.second) = (accepted, now_ns / SECOND_NS);
    }
}

/// Side, price, change of the open quantity, change of the count of open orders.
pub(super) type Change = (Side, i64, i64, i32);

/// What an account's tally is to count.
#[derive(Clone, Copy)]
pub(super) enum Counted {
    /// An open order of this account changed.
    Open(u32, Change),
    /// An order of this account was accepted.
    Accepted(u32),
}

/// Counts of accounts in one symbol each, by symbol and account.
#[derive(Clone, Default)]
pub(super) struct SymbolTallies(BTreeMap<(u32, u32), Tally>);

impl SymbolTallies {
    /// The account's counts in one symbol.
    pub(super) fn of(&self, symbol: u32, account: u32) -> Tally {
        self.0.get(&(symbol, account)).copied().unwrap_or_default()
    }

    pub(super) fn of_mut(&mut self, symbol: u32, account: u32) -> &mut Tally {
        self.0.entry((symbol, account)).or_default()
    }

    /// Forgets the open orders of these accounts; their rates stay.
    pub(super) fn clear_open(&mut self, first: u32, last: u32) {
        let of_range = |((_, account), _): &(&(u32, u32), &mut Tally)| (first..=last).contains(account);
        for (_, tally) in self.0.iter_mut().filter(of_range) {
            (tally.notional, tally.open_orders) = ([0; 2], 0);
        }
    }

    /// Symbol, account and count of those that were counted in this second, ascending.
    pub(super) fn rates(&self, now_ns: u64) -> impl Iterator<Item = (u32, u32, u32)> {
        let rates = self.0.iter().map(move |((symbol, account), tally)| (*symbol, *account, tally.rate(now_ns)));
        rates.filter(|(.., rate)| *rate != 0)
    }

    /// Heap that the tallies hold, bytes, nearly.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.len() * (size_of::<Tally>() + 8)
    }
}

/// Counts of accounts in all symbols.
#[derive(Clone, Default)]
pub(super) struct Tallies {
    accounts: Pages<Tally>,
    /// The second in which a rate was counted last.
    counted: Option<u64>,
}

impl Tallies {
    /// The account's counts in all symbols.
    pub(super) fn of(&self, account: u32) -> Tally {
        self.accounts.of(account)
    }

    /// Asks for the line of an account.
    #[inline]
    pub(super) fn fetch(&self, account: u32) {
        self.accounts.fetch(account);
    }

    /// Counts what was noted.
    pub(super) fn count(&mut self, noted: Counted, now_ns: u64) {
        match noted {
            Counted::Open(account, change) => self.accounts.of_mut(account).change(change),
            Counted::Accepted(account) => {
                self.counted = Some(now_ns / SECOND_NS);
                self.accounts.of_mut(account).accept(now_ns);
            }
        }
    }

    /// Takes a rate over that was counted in the second of `now_ns`.
    pub(super) fn restore_rate(&mut self, account: u32, accepted: u32, now_ns: u64) {
        self.counted = Some(now_ns / SECOND_NS);
        self.accounts.of_mut(account).restore_rate(accepted, now_ns);
    }

    /// Forgets the open orders of these accounts; their rates stay.
    pub(super) fn clear_open(&mut self, first: u32, last: u32) {
        for tally in self.accounts.range_mut(first, last) {
            (tally.notional, tally.open_orders) = ([0; 2], 0);
        }
    }

    /// When a second ends in which rates were counted: time is due then.
    pub(super) fn next_due_ns(&self, now_ns: u64) -> Option<u64> {
        self.counted.filter(|second| *second == now_ns / SECOND_NS).map(|second| (second + 1) * SECOND_NS)
    }

    /// Accounts that were counted in this second, ascending, each with its count.
    pub(super) fn rates(&self, now_ns: u64) -> Vec<(u32, u32)> {
        self.accounts.iter().map(|(account, tally)| (account, tally.rate(now_ns))).filter(|(_, rate)| *rate != 0).collect()
    }

    /// Heap that the tallies hold, bytes, nearly.
    pub(super) fn heap_bytes(&self) -> usize {
        self.accounts.heap_bytes()
    }
}
