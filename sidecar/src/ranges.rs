//! Something for ranges of accounts, in all symbols (symbol 0) or in one: limits that the configuration named, and limits that hold.
//! Ranges of one symbol do not overlap; a later one cuts earlier ones.

use std::collections::BTreeMap;

use ringlane_layout::orders::AccountLimits;

/// By (symbol, first account): last account, and what the range has.
#[derive(Debug, Clone)]
pub struct Ranges<T> {
    ranges: BTreeMap<(u32, u32), (u32, T)>,
}

impl<T> Default for Ranges<T> {
    fn default() -> Self {
        Self { ranges: BTreeMap::new() }
    }
}

impl<T: Copy> Ranges<T> {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Ranges that there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// What an account has in a symbol.
    #[must_use]
    pub fn find(&self, symbol: u32, account: u32) -> Option<&T> {
        let ((of, _), (last, found)) = self.ranges.range(..=(symbol, account)).next_back()?;
        (*of == symbol && account <= *last).then_some(found)
    }

    /// Whether any account has something in a symbol.
    #[must_use]
    pub fn concern(&self, symbol: u32) -> bool {
        self.ranges.range((symbol, 0)..=(symbol, u32::MAX)).next().is_some()
    }

    /// Sets what a range has, or that it has nothing; ranges that it cuts keep their rest.
    pub fn set(&mut self, symbol: u32, (first, last): (u32, u32), value: Option<T>) {
        let below = self.ranges.range((symbol, 0)..=(symbol, last)).filter(|(_, (end, _))| *end >= first);
        let cut: Vec<_> = below.map(|((_, begin), (end, old))| (*begin, *end, *old)).collect();
        for (begin, end, old) in cut {
            self.ranges.remove(&(symbol, begin));
            if begin < first {
                self.ranges.insert((symbol, begin), (first - 1, old));
            }
            if end > last {
                self.ranges.insert((symbol, last + 1), (end, old));
            }
        }
        if let Some(value) = value {
            self.ranges.insert((symbol, first), (last, value));
        }
    }

    /// Every range, ascending: symbol, first and last account, and what they have.
    pub fn iter(&self) -> impl Iterator<Item = (u32, (u32, u32), &T)> {
        self.ranges.iter().map(|((symbol, first), (last, value))| (*symbol, (*first, *last), value))
    }
}

/// Adds a record behind others, ascending by symbol and account; neighbours that differ in nothing but their accounts are one.
pub fn join(records: &mut Vec<AccountLimits>, next: AccountLimits) {
    match records.last_mut() {
        Some(before)
            if before.account_last + 1 == next.account_first
                && *before == (AccountLimits { account_first: before.account_first, account_last: before.account_last, ..next }) =>
        {
            before.account_last = next.account_last;
        }
        _ => records.push(next),
    }
}
