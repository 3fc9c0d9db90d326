//! `[orders]`: instruments, accounts and what the books may hold. It becomes records, which the journal keeps.

use std::collections::HashSet;

use ringlane_layout::limits::{
    ACCOUNT_MAX, ORDER_PRICE_MAX, ORDER_QUANTITY_MAX, ORDER_THREADS_MAX, PARALLEL_BATCH_SLOTS_MAX, PRICE_DECIMALS_MAX, RESTING_ORDERS_MAX,
    SYMBOLS_MAX,
};
use ringlane_layout::orders::{AccountLimits, Instrument};
use serde::{Deserialize, Serialize};

use super::Wrong;

/// `[orders]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrdersConfig {
    /// Most resting orders in all books together.
    pub resting_orders_max: usize,
    /// Threads that share a large batch by symbol, the sequencer's own among them; 1: it matches alone.
    pub threads: usize,
    /// Orders of one lane that must wait at once for a batch to be large.
    pub parallel_batch_min: usize,
    /// Instruments, in the order of their symbol numbers; none: the 64 built-in ones.
    pub instruments: Vec<InstrumentConfig>,
    /// Accounts and their limits; none: 1 to 10,000 with the built-in limits.
    pub accounts: Vec<AccountsConfig>,
}

impl Default for OrdersConfig {
    fn default() -> Self {
        Self { resting_orders_max: 1 << 20, threads: 1, parallel_batch_min: 1024, instruments: Vec::new(), accounts: Vec::new() }
    }
}

/// One `[[orders.instruments]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InstrumentConfig {
    /// Symbol name, 1 to 24 printable ASCII characters.
    pub name: String,
    /// Decimals of a price.
    #[serde(default = "four")]
    pub price_decimals: u32,
    /// Smallest price step, price units.
    #[serde(default = "one")]
    pub tick: i64,
    /// Smallest quantity step.
    #[serde(default = "one")]
    pub lot: i64,
    /// Price for the collar before the first trade, price units; 0 for none.
    #[serde(default)]
    pub reference_price: i64,
}

/// One `[[orders.accounts]]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AccountsConfig {
    /// First account number.
    pub first: u32,
    /// Last account number.
    pub last: u32,
    /// Largest quantity of one order; 0 for no limit.
    #[serde(default)]
    pub order_quantity_max: i64,
    /// Largest absolute position in one symbol; 0 for no limit.
    #[serde(default)]
    pub position_max: i64,
    /// Price collar, basis points; 0 for none.
    #[serde(default)]
    pub price_collar_bps: u32,
    /// Largest price x quantity of one order; 0 for no limit.
    #[serde(default)]
    pub order_notional_max: i64,
    /// Largest worth of the open orders of one side; 0 for no limit.
    #[serde(default)]
    pub exposure_max: i64,
    /// Most open orders; 0 for no limit.
    #[serde(default)]
    pub open_orders_max: u32,
    /// Most orders in one second; 0 for no limit.
    #[serde(default)]
    pub order_rate_max: u32,
    /// Symbol number in which alone these limits hold, beside those of the account; 0 for the account's own.
    #[serde(default)]
    pub symbol: u32,
    /// Account group for self-trade prevention; 0: each account by itself.
    #[serde(default)]
    pub group: u32,
    /// What becomes of a trade within the group: 0 allow, 1 cancel newest, 2 cancel oldest, 3 cancel both.
    #[serde(default)]
    pub self_trade: u8,
}

const fn four() -> u32 {
    4
}

const fn one() -> i64 {
    1
}

/// Symbols of a sidecar that was configured with none: prices with four decimals, a tick of one cent.
const BUILT_IN_SYMBOLS: [&str; 64] = [
    "AAPL", "MSFT", "AMZN", "GOOG", "INTC", "NVDA", "META", "TSLA", "AVGO", "COST", "NFLX", "AMD", "ADBE", "CSCO", "PEP", "TMUS", "QCOM",
    "TXN", "AMGN", "INTU", "CMCSA", "HON", "ISRG", "AMAT", "BKNG", "VRTX", "ADP", "REGN", "MU", "GILD", "LRCX", "PANW", "MDLZ", "ADI",
    "KLAC", "SNPS", "CDNS", "MELI", "CRWD", "SBUX", "ORLY", "CSX", "MAR", "ABNB", "NXPI", "PYPL", "FTNT", "MRVL", "CTAS", "ROP", "PCAR",
    "WDAY", "MNST", "CPRT", "ROST", "PAYX", "AEP", "ODFL", "FAST", "KDP", "EA", "EXC", "XEL", "CTSH",
];

/// Built-in accounts and limits.
const BUILT_IN_ACCOUNTS: AccountsConfig = AccountsConfig {
    first: 1,
    last: 10_000,
    order_quantity_max: 1_000_000,
    position_max: 50_000_000,
    price_collar_bps: 2_000,
    order_notional_max: 0,
    exposure_max: 0,
    open_orders_max: 0,
    order_rate_max: 0,
    symbol: 0,
    group: 0,
    self_trade: 0,
};

impl InstrumentConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
        let name_ok = (1..=24).contains(&self.name.len()) && self.name.bytes().all(|byte| byte.is_ascii_graphic());
        if !name_ok {
            return Err(format!("instrument name {:?} must be 1 to 24 printable ASCII characters", self.name));
        }
        let steps_ok = (1..=ORDER_PRICE_MAX).contains(&self.tick) && (1..=ORDER_QUANTITY_MAX).contains(&self.lot);
        if self.price_decimals > PRICE_DECIMALS_MAX || !steps_ok || !(0..=ORDER_PRICE_MAX).contains(&self.reference_price) {
            return Err(format!(
                "instrument {}: price_decimals must be 0 to {PRICE_DECIMALS_MAX}, tick 1 to {ORDER_PRICE_MAX}, lot 1 to \
                 {ORDER_QUANTITY_MAX}, reference_price 0 to {ORDER_PRICE_MAX}",
                self.name
            ));
        }
        Ok(())
    }
}

impl AccountsConfig {
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.first < 1
            || self.last < self.first
            || self.last > ACCOUNT_MAX
            || self.order_quantity_max < 0
            || self.position_max < 0
            || self.order_notional_max < 0
            || self.exposure_max < 0
            || self.self_trade > 3
            || (self.symbol != 0 && (self.group != 0 || self.self_trade != 0))
        {
            return Err(format!(
                "accounts {} to {}: they must ascend within 1 to {ACCOUNT_MAX}, with limits of 0 or more, self_trade from 0 to 3, and neither group nor self_trade beside a symbol",
                self.first, self.last
            ));
        }
        Ok(())
    }
}

impl OrdersConfig {
    /// What types cannot say.
    pub(super) fn check(&self) -> Result<(), Wrong> {
        if !(1..=RESTING_ORDERS_MAX).contains(&self.resting_orders_max) {
            return Err(Wrong::new("orders.resting_orders_max", format!("it must be 1 to {RESTING_ORDERS_MAX}")));
        }
        if !(1..=ORDER_THREADS_MAX).contains(&self.threads) {
            return Err(Wrong::new("orders.threads", format!("it must be 1 to {ORDER_THREADS_MAX}")));
        }
        if !(1..=PARALLEL_BATCH_SLOTS_MAX).contains(&self.parallel_batch_min) {
            return Err(Wrong::new("orders.parallel_batch_min", format!("it must be 1 to {PARALLEL_BATCH_SLOTS_MAX}")));
        }
        if self.instruments.len() > SYMBOLS_MAX as usize {
            return Err(Wrong::new("orders.instruments", format!("there can be {SYMBOLS_MAX} instruments at most")));
        }
        let mut names = HashSet::new();
        for (index, instrument) in self.instruments.iter().enumerate() {
            let wrong = |words| Wrong::new(format!("orders.instruments.{index}"), words);
            instrument.check().map_err(wrong)?;
            if !names.insert(&instrument.name) {
                return Err(wrong(format!("instrument {} stands in the list twice", instrument.name)));
            }
        }
        let mut accounts = self.accounts.iter().enumerate();
        accounts.try_for_each(|(index, accounts)| accounts.check().map_err(|words| Wrong::new(format!("orders.accounts.{index}"), words)))
    }

    /// The instruments as records, numbered from 1.
    #[must_use]
    pub fn instrument_records(&self) -> Vec<Instrument> {
        let built_in = |name: &&str| InstrumentConfig { name: (*name).into(), price_decimals: 4, tick: 100, lot: 1, reference_price: 0 };
        let all: Vec<_> =
            if self.instruments.is_empty() { BUILT_IN_SYMBOLS.iter().map(built_in).collect() } else { self.instruments.clone() };
        (1..).zip(&all).map(|(symbol, instrument)| instrument.record(symbol)).collect()
    }

    /// The accounts as records.
    #[must_use]
    pub fn account_records(&self) -> Vec<AccountLimits> {
        let all = if self.accounts.is_empty() { std::slice::from_ref(&BUILT_IN_ACCOUNTS) } else { &self.accounts };
        all.iter().map(AccountsConfig::record).collect()
    }
}

impl InstrumentConfig {
    pub(crate) fn record(&self, symbol: u32) -> Instrument {
        let mut name = [0; 24];
        name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        Instrument {
            symbol,
            price_decimals: self.price_decimals,
            tick: self.tick,
            lot: self.lot,
            reference_price: self.reference_price,
            name,
            ..Instrument::default()
        }
    }
}

impl AccountsConfig {
    pub(crate) fn record(&self) -> AccountLimits {
        AccountLimits {
            account_first: self.first,
            account_last: self.last,
            order_quantity_max: self.order_quantity_max,
            position_max: self.position_max,
            price_collar_bps: self.price_collar_bps,
            order_notional_max: self.order_notional_max,
            exposure_max: self.exposure_max,
            open_orders_max: self.open_orders_max,
            order_rate_max: self.order_rate_max,
            symbol: self.symbol,
            group: self.group,
            self_trade: self.self_trade,
            ..AccountLimits::default()
        }
    }
}
