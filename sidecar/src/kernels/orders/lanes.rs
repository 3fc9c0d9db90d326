//! Which lanes are open and which accounts each may trade.

use std::collections::BTreeMap;

/// Accounts that a lane may trade, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) account_first: u32,
    pub(super) account_last: u32,
}

impl Grant {
    /// What a lane may trade that is not open: nothing.
    pub(super) const NONE: Self = Self { account_first: 1, account_last: 0 };

    /// Every account.
    pub(super) const ALL: Self = Self { account_first: 0, account_last: u32::MAX };

    #[inline(always)]
    pub(super) fn permits(self, account: u32) -> bool {
        self.account_first <= account && account <= self.account_last
    }
}

/// Open lanes by number.
pub(super) type Lanes = BTreeMap<u32, Grant>;
