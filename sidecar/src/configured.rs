//! What the configuration file said of accounts when it was read last, as far as the journal knows. At a start the file is
//! compared with this, and not with what is in force: only what somebody changed in the file since then is applied, and what an
//! administrator decided meanwhile stays. So the last decision wins, whoever made it.

use std::collections::BTreeSet;

use ringlane_layout::orders::AccountLimits;

use crate::ranges::{Ranges, join};

/// Limits by symbol (0: the account's own) and accounts; the records in it name no accounts.
#[derive(Debug, Clone, Default)]
pub struct Configured {
    ranges: Ranges<AccountLimits>,
}

impl FromIterator<AccountLimits> for Configured {
    /// Entries of a file, where a later one wins.
    fn from_iter<T: IntoIterator<Item = AccountLimits>>(records: T) -> Self {
        let mut configured = Self::default();
        records.into_iter().for_each(|record| configured.set(&record));
        configured
    }
}

impl Configured {
    /// Nothing was ever configured, or the journal is of a ringlane that did not remember it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Every range, ascending by symbol and account.
    pub fn records(&self) -> impl Iterator<Item = AccountLimits> + '_ {
        let whole =
            |(_, (account_first, account_last), limits): (u32, _, &AccountLimits)| AccountLimits { account_first, account_last, ..*limits };
        self.ranges.iter().map(whole)
    }

    /// Sets the limits of a range; ranges that it cuts keep their rest.
    pub fn set(&mut self, record: &AccountLimits) {
        let limits = AccountLimits { account_first: 0, account_last: 0, live: 0, ..*record };
        self.ranges.set(record.symbol, (record.account_first, record.account_last), Some(limits));
    }

    /// The limits of one account in a symbol, without its range.
    fn of(&self, symbol: u32, account: u32) -> Option<AccountLimits> {
        self.ranges.find(symbol, account).copied()
    }

    /// Records that make of these limits those of `file`: one for each longest range in which the two differ alike. Where the
    /// file has no limits in a symbol any more, none hold. An account's own limits do not end: accounts are not removed.
    #[must_use]
    pub fn changes(&self, file: &Self) -> Vec<AccountLimits> {
        let mut edges = BTreeSet::new();
        for (symbol, (first, last), _) in self.ranges.iter().chain(file.ranges.iter()) {
            edges.extend([(symbol, first), (symbol, last + 1)]);
        }
        let mut changes: Vec<AccountLimits> = Vec::new();
        for (from, to) in edges.iter().zip(edges.iter().skip(1)).filter(|(from, to)| from.0 == to.0) {
            let (symbol, first) = *from;
            let fresh = file.of(symbol, first);
            let ends = || AccountLimits { symbol, ..AccountLimits::default() };
            if fresh == self.of(symbol, first) || (fresh.is_none() && symbol == 0) {
                continue;
            }
            join(&mut changes, AccountLimits { account_first: first, account_last: to.1 - 1, ..fresh.unwrap_or_else(ends) });
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(symbol: u32, account_first: u32, account_last: u32, position_max: i64) -> AccountLimits {
        AccountLimits { symbol, account_first, account_last, position_max, ..AccountLimits::default() }
    }

    #[test]
    fn a_later_entry_wins_and_the_rest_of_an_earlier_one_stays() {
        let configured: Configured = [range(0, 1, 9, 5), range(0, 4, 5, 7), range(2, 4, 5, 8)].into_iter().collect();
        let all = [range(0, 1, 3, 5), range(0, 4, 5, 7), range(0, 6, 9, 5), range(2, 4, 5, 8)];
        assert_eq!(configured.records().collect::<Vec<_>>(), all);
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let before: Configured = [range(0, 1, 9, 5), range(2, 3, 6, 8)].into_iter().collect();
        assert_eq!(before.changes(&before), []);
        let after: Configured = [range(0, 1, 9, 5), range(0, 4, 4, 6), range(0, 5, 5, 6), range(0, 10, 12, 5)].into_iter().collect();
        assert_eq!(before.changes(&after), [range(0, 4, 5, 6), range(0, 10, 12, 5), range(2, 3, 6, 0)]);
    }

    /// Against one cell an account, over random entries: applying the changes to what was gives what the file says.
    #[test]
    fn changes_make_the_file_of_what_was() {
        let mut state = 7_u64;
        let mut below = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..2000 {
            let mut some = || -> Vec<AccountLimits> {
                let count = below(6);
                let one = |_| {
                    let first = 1 + below(12) as u32;
                    range(below(3) as u32, first, first + below(5) as u32, 1 + below(3) as i64)
                };
                (0..count).map(one).collect()
            };
            let (old, new) = (some(), some());
            let (before, after): (Configured, Configured) = (old.into_iter().collect(), new.into_iter().collect());
            let mut merged = before.clone();
            before.changes(&after).iter().for_each(|change| merged.set(change));
            for (symbol, account) in (0..3).flat_map(|symbol| (0..20).map(move |account| (symbol, account))) {
                let none = AccountLimits { symbol, ..AccountLimits::default() };
                let (was, is, wanted) = (before.of(symbol, account), merged.of(symbol, account), after.of(symbol, account));
                let expected = if symbol == 0 { wanted.or(was) } else { wanted.or(was.map(|_| none)) };
                assert_eq!(is, expected, "symbol {symbol}, account {account}");
            }
        }
    }
}
