//! Books and all that they hold, in `SHARDS` parts that share nothing: symbol by symbol in turn, each part with its own
//! slabs. Whoever has a part to itself can match in it and look at nobody else; how that is used stands in `parallel.rs`.

use ringlane_layout::orders::{Op, OrderRequest, OrderResult, RejectCode};

use super::accounts::Accounts;
use super::book::Book;
use super::check::Checked;
use super::desk::{Desk, Entry};
use super::ops::{self, Answer};
use super::store::Store;
use super::tallies::Tallies;
use super::{Counters, Outgoing, entered};

/// Parts. No result depends on it.
pub(super) const SHARDS: usize = 8;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// Number of the part in which a symbol's book is; of a symbol that does not exist, where its requests are answered.
#[inline(always)]
pub(super) fn shard_of(symbol: u32) -> usize {
    symbol.wrapping_sub(1) as usize & (SHARDS - 1)
}

/// Index of a symbol's book in its part; out of range for symbol 0.
#[inline(always)]
pub(super) fn index_of(symbol: u32) -> u32 {
    symbol.wrapping_sub(1) >> SHARD_BITS
}

/// One part, on lines of its own: another thread may be at work in the next one.
#[repr(align(512))]
pub(super) struct Shard {
    /// Books, ascending by symbol.
    pub(super) books: Vec<Book>,
    pub(super) store: Store,
    /// Of the requests that were answered here; `resting` stays 0.
    pub(super) counters: Counters,
}

/// Who knows the accounts and hears which new orders they have accepted.
pub(super) trait Register {
    fn accounts(&self) -> &Accounts;
    fn accepted(&mut self, account: u32, client_order_id: u64);
}

impl Register for Accounts {
    #[inline(always)]
    fn accounts(&self) -> &Accounts {
        self
    }
    #[inline(always)]
    fn accepted(&mut self, account: u32, client_order_id: u64) {
        Accounts::accepted(self, account, client_order_id);
    }
}

impl Shard {
    /// Whether a checked request means more than one part: only it has no book, and is no reject.
    #[inline(always)]
    pub(super) fn is_for_many(&self, checked: &Checked) -> bool {
        checked.book as usize >= self.books.len() && checked.reject.is_none()
    }

    /// The stages that need a book: ids, risk, business rules, match, settle; of a request that means one part. What it changes
    /// of its account's counts is noted in the store's `changes`.
    #[inline(always)]
    pub(super) fn apply(
        &mut self,
        (register, tallies): (&mut impl Register, &Tallies),
        entry: Entry,
        request: &OrderRequest,
        checked: &Checked,
        out: &mut Vec<Outgoing>,
        work: &mut u64,
    ) -> Result<Answer, RejectCode> {
        if let Some(code) = checked.reject {
            return Err(code);
        }
        let Self { books, store, counters } = self;
        let book = books.get_mut(checked.book as usize).ok_or(RejectCode::UnknownSymbol)?;
        let accounts = register.accounts();
        let mut desk = Desk { store, accounts, tallies, limits: accounts.limits(checked.class), entry, out, work };
        match checked.op {
            Op::New => {
                let outcome = ops::new(book, &mut desk, request, checked);
                if let Ok(answer) = &outcome {
                    counters.trades += entered(book, &mut desk, checked.account, answer);
                    register.accepted(checked.account, checked.client_order_id);
                }
                outcome
            }
            Op::Cancel => ops::cancel(book, &mut desk, checked),
            Op::Reduce => ops::reduce(book, &mut desk, checked),
            Op::Replace => {
                let outcome = ops::replace(book, &mut desk, request, checked);
                if let Ok(answer) = &outcome {
                    counters.trades += entered(book, &mut desk, checked.account, answer);
                }
                outcome
            }
            Op::TakeOver | Op::CancelAll => Ok(ops::take_over(book, &mut desk, checked)),
        }
    }

    /// Writes the answer in the request's own place.
    #[inline(always)]
    pub(super) fn answer(&mut self, entry: Entry, request: &OrderRequest, outcome: Result<Answer, RejectCode>, result: &mut OrderResult) {
        *result = OrderResult { sequence: entry.sequence, client_order_id: request.client_order_id, ..OrderResult::default() };
        match outcome {
            Ok(Answer { order_id, fills, remaining, state }) => {
                self.counters.accepted += 1;
                result.order_id = order_id;
                result.notional = fills.notional;
                result.filled_quantity = fills.quantity;
                result.remaining_quantity = remaining;
                result.fill_count = fills.count;
                result.state = state as u8;
                result.reason = if fills.prevented { ringlane_layout::orders::CancelReason::SelfTrade as u16 } else { 0 };
            }
            Err(code) => {
                self.counters.rejected += 1;
                self.counters.not_permitted += u64::from(code == RejectCode::AccountNotPermitted);
                result.code = code as u16;
            }
        }
    }
}

/// All parts.
pub(super) struct Shards {
    parts: [Shard; SHARDS],
    books: u32,
}

impl Shards {
    pub(super) fn new(seed: u64) -> Self {
        let shard = |_| Shard { books: Vec::new(), store: Store::new(seed), counters: Counters::default() };
        Self { parts: std::array::from_fn(shard), books: 0 }
    }

    /// Books in all parts.
    #[inline(always)]
    pub(super) fn book_count(&self) -> u32 {
        self.books
    }

    /// Of a copy whose books were put into their parts.
    pub(super) fn set_book_count(&mut self, books: u32) {
        self.books = books;
    }

    /// The part of a symbol.
    #[inline(always)]
    pub(super) fn of(&self, symbol: u32) -> &Shard {
        &self.parts[shard_of(symbol)]
    }

    /// The part of a symbol.
    #[inline(always)]
    pub(super) fn of_mut(&mut self, symbol: u32) -> &mut Shard {
        &mut self.parts[shard_of(symbol)]
    }

    /// Every part.
    #[inline(always)]
    pub(super) fn all(&self) -> &[Shard; SHARDS] {
        &self.parts
    }

    /// Every part.
    #[inline(always)]
    pub(super) fn all_mut(&mut self) -> &mut [Shard; SHARDS] {
        &mut self.parts
    }

    /// A symbol's book and where its orders are.
    pub(super) fn book(&self, symbol: u32) -> Option<(&Book, &Store)> {
        let shard = self.of(symbol);
        Some((shard.books.get(index_of(symbol) as usize)?, &shard.store))
    }

    /// A symbol's book and where its orders are.
    pub(super) fn book_mut(&mut self, symbol: u32) -> Option<(&mut Book, &mut Store)> {
        let shard = self.of_mut(symbol);
        Some((shard.books.get_mut(index_of(symbol) as usize)?, &mut shard.store))
    }

    /// Every book, ascending by symbol, and where its orders are.
    pub(super) fn books(&self) -> impl Iterator<Item = (&Book, &Store)> {
        (1..=self.books).filter_map(|symbol| self.book(symbol))
    }

    /// Adds the next symbol's book.
    pub(super) fn push(&mut self, book: Book) {
        self.books += 1;
        self.of_mut(self.books).books.push(book);
    }
}
