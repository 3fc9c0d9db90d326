//! Limits of an account, ready to compare with; and the ranges of accounts that have more of them in one symbol.

use ringlane_layout::limits::SYMBOL_LIMITS_MAX;
use ringlane_layout::orders::{AccountLimits, SelfTrade};

use super::config::ConfigError;
use crate::ranges::{Ranges, join};

/// Limits. None is the largest number; a collar of 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) order_quantity_max: i64,
    pub(super) position_max: i64,
    pub(super) order_notional_max: i64,
    pub(super) exposure_max: i64,
    pub(super) price_collar_bps: u32,
    pub(super) open_orders_max: u32,
    pub(super) order_rate_max: u32,
    pub(super) group: u32,
    pub(super) self_trade: SelfTrade,
    /// Whether any limit beside size, position and collar is set.
    pub(super) has_more: bool,
    /// Whether one of them asks for the account's open orders.
    pub(super) tallied: bool,
}

impl Limits {
    /// Of nobody.
    pub(super) const NONE: Self = Self {
        order_quantity_max: 0,
        position_max: 0,
        order_notional_max: 0,
        exposure_max: 0,
        price_collar_bps: 0,
        open_orders_max: 0,
        order_rate_max: 0,
        group: 0,
        self_trade: SelfTrade::Allow,
        has_more: false,
        tallied: false,
    };

    /// Checks what a record says and makes it ready. Symbol and range are checked elsewhere.
    pub(super) fn new(record: &AccountLimits) -> Result<Self, ConfigError> {
        let first = record.account_first;
        let numbers = [record.order_quantity_max, record.position_max, record.order_notional_max, record.exposure_max];
        if numbers.iter().any(|number| *number < 0) {
            return Err(ConfigError::NegativeLimit { first });
        }
        if record.reserved != [0; 2] || record.live > 1 {
            return Err(ConfigError::ReservedNotZero);
        }
        let self_trade = SelfTrade::try_from(record.self_trade).map_err(|_| ConfigError::BadSelfTrade { first })?;
        let wide = |limit: i64| if limit == 0 { i64::MAX } else { limit };
        let narrow = |limit: u32| if limit == 0 { u32::MAX } else { limit };
        let mut limits = Self {
            order_quantity_max: wide(record.order_quantity_max),
            position_max: wide(record.position_max),
            order_notional_max: wide(record.order_notional_max),
            exposure_max: wide(record.exposure_max),
            price_collar_bps: record.price_collar_bps,
            open_orders_max: narrow(record.open_orders_max),
            order_rate_max: narrow(record.order_rate_max),
            group: record.group,
            self_trade,
            has_more: false,
            tallied: false,
        };
        limits.tallied = (limits.exposure_max, limits.open_orders_max) != (i64::MAX, u32::MAX);
        limits.has_more = limits.tallied || (limits.order_notional_max, limits.order_rate_max) != (i64::MAX, u32::MAX);
        Ok(limits)
    }

    /// Whether nothing is limited.
    fn is_unlimited(&self) -> bool {
        !self.has_more && (self.order_quantity_max, self.position_max, self.price_collar_bps) == (i64::MAX, i64::MAX, 0)
    }

    /// The limits in the words of a record: 0 for none.
    pub(super) fn record(&self, (account_first, account_last): (u32, u32), symbol: u32) -> AccountLimits {
        let wide = |limit: i64| if limit == i64::MAX { 0 } else { limit };
        let narrow = |limit: u32| if limit == u32::MAX { 0 } else { limit };
        AccountLimits {
            account_first,
            account_last,
            order_quantity_max: wide(self.order_quantity_max),
            position_max: wide(self.position_max),
            order_notional_max: wide(self.order_notional_max),
            exposure_max: wide(self.exposure_max),
            price_collar_bps: self.price_collar_bps,
            open_orders_max: narrow(self.open_orders_max),
            order_rate_max: narrow(self.order_rate_max),
            symbol,
            group: self.group,
            self_trade: self.self_trade as u8,
            ..AccountLimits::default()
        }
    }
}

/// Limits in one symbol, by ranges of accounts.
#[derive(Clone, Default)]
pub(super) struct SymbolLimits(Ranges<Limits>);

impl SymbolLimits {
    /// The limits of `account` in `symbol`, if it has any there.
    #[inline]
    pub(super) fn find(&self, symbol: u32, account: u32) -> Option<&Limits> {
        self.0.find(symbol, account)
    }

    /// Whether any account has limits in `symbol`.
    pub(super) fn concern(&self, symbol: u32) -> bool {
        self.0.concern(symbol)
    }

    /// Ranges that there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Sets the limits of a range, where there are `ranges` in all parts.
    pub(super) fn set(&mut self, symbol: u32, accounts: (u32, u32), limits: Limits, ranges: usize) -> Result<(), ConfigError> {
        if ranges + 2 > SYMBOL_LIMITS_MAX {
            return Err(ConfigError::TooManyLimits);
        }
        self.0.set(symbol, accounts, (!limits.is_unlimited()).then_some(limits));
        Ok(())
    }

    /// Every range as a record, ascending by symbol and account; neighbours of equal limits are one.
    pub(super) fn records(&self) -> Vec<AccountLimits> {
        let mut records = Vec::new();
        self.0.iter().for_each(|(symbol, accounts, limits)| join(&mut records, limits.record(accounts, symbol)));
        records
    }
}
