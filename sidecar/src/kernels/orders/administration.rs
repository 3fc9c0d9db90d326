//! What administrators and the configuration change: instruments, accounts and their limits, halts, cancels.

use ringlane_layout::orders::{AccountLimits, AdminAction, AdminOp, CancelReason, Instrument};

use super::attributes::TALLIED;
use super::book::Book;
use super::config::{self, ConfigError};
use super::desk::Entry;
use super::endings::Selection;
use super::lanes::Grant;
use super::limits::Limits;
use super::{OrderKernel, Outgoing, count_changes};

impl OrderKernel {
    /// Adds the next symbol.
    ///
    /// # Errors
    /// When the record is wrong or out of turn; nothing has changed then.
    pub fn add_instrument(&mut self, instrument: &Instrument) -> Result<(), ConfigError> {
        config::check_instrument(instrument, self.shards.book_count() + 1)?;
        if !self.names.insert(instrument.name) {
            return Err(ConfigError::DuplicateName { symbol: instrument.symbol });
        }
        let seed = self.shards.of(instrument.symbol).store.seed;
        self.shards.push(Book::new(instrument, seed));
        if self.watches_new_books {
            self.watch(instrument.symbol);
        }
        Ok(())
    }

    /// Makes a range of accounts exist with these limits, or gives it limits in one symbol; a later record wins. Resting
    /// orders stay even where they pass a lower limit; what comes after is checked against it.
    ///
    /// # Errors
    /// When the record is wrong; nothing has changed then.
    pub fn set_accounts(&mut self, record: &AccountLimits) -> Result<(), ConfigError> {
        config::check_range(record, self.shards.book_count())?;
        let limits = Limits::new(record)?;
        let (first, last) = (record.account_first, record.account_last);
        if record.symbol == 0 {
            self.accounts.set(first, last, limits)?;
        } else {
            let ranges = self.shards.all().iter().map(|shard| shard.store.symbol_limits.len()).sum();
            if let Some((book, store)) = self.shards.book_mut(record.symbol) {
                store.symbol_limits.set(record.symbol, (first, last), limits, ranges)?;
                book.limited = store.symbol_limits.concern(record.symbol);
            }
        }
        self.tally_anew(first, last);
        Ok(())
    }

    /// Counts the open orders of these accounts anew, where a limit asks for them.
    fn tally_anew(&mut self, first: u32, last: u32) {
        self.tallies.clear_open(first, last);
        for store in self.shards.all_mut().iter_mut().map(|shard| &mut shard.store) {
            store.symbol_tallies.clear_open(first, last);
            for at in 0..store.orders.used() {
                let order = store.orders.get(at);
                if !order.is_live() || !(first..=last).contains(&order.account) {
                    continue;
                }
                let symbol = store.holdings.get(order.position).symbol;
                let limits = self.accounts.limits(self.accounts.class(order.account));
                let is_counted = limits.tallied || store.symbol_limits.find(symbol, order.account).is_some();
                let order = store.orders.get_mut(at);
                order.filled_bits = order.filled_bits & !TALLIED | if is_counted { TALLIED } else { 0 };
                let total = store.total(at);
                store.tally(at, i64::from(total), 1);
                count_changes(&mut self.tallies, store);
            }
        }
    }

    /// Does what an administrator asks. The owners of cancelled orders are told, in the order of entry. Returns the orders that
    /// were cancelled, and the work.
    ///
    /// # Errors
    /// When the record is wrong; nothing has changed then.
    pub fn administer(&mut self, sequence: u64, action: &AdminAction, out: &mut Vec<Outgoing>) -> Result<(u32, u64), String> {
        let op = AdminOp::try_from(action.action).map_err(|number| format!("there is no administrator's action {number}"))?;
        if action.symbol > self.shards.book_count() {
            return Err(format!("there is no symbol {}", action.symbol));
        }
        let given = |number: u32| (number != 0).then_some(number);
        if op == AdminOp::CancelAll {
            let selection =
                Selection { symbol: given(action.symbol), account: given(action.account), lane: given(action.lane), grant: Grant::ALL };
            let mut work = 1;
            let entry = Entry { sequence, lane: 0 };
            let count = self.end_selected(entry, &selection, CancelReason::Administrator, out, &mut work);
            return Ok((count, work));
        }
        let books = self.shards.all_mut().iter_mut().flat_map(|shard| &mut shard.books);
        for book in books.filter(|book| action.symbol == 0 || book.symbol == action.symbol) {
            book.halted = op == AdminOp::Halt;
        }
        Ok((0, 1))
    }
}
