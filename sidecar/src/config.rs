//! The sidecar's configuration: what stands in the TOML file, its defaults, and what is wrong with it in words.
//! It is read once at start; whatever decides a result is journaled as records, and replay never comes here.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ringlane_layout::limits::{
    ACCOUNT_MAX, ORDER_PRICE_MAX, ORDER_QUANTITY_MAX, PRICE_DECIMALS_MAX, RESTING_ORDERS_MAX, SPARE_SEGMENTS_MAX, SYMBOLS_MAX,
};
use ringlane_layout::orders::{AccountLimits, Instrument};
use serde::Deserialize;

/// The whole configuration. Unknown keys are errors.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Path of the control socket.
    pub socket: Option<PathBuf>,
    /// The recording.
    pub journal: JournalConfig,
    /// How the sequencer waits and where it runs.
    pub sequencer: SequencerConfig,
    /// What lanes may cost.
    pub lanes: LanesConfig,
    /// The order kernel.
    pub orders: OrdersConfig,
}

/// `[lanes]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LanesConfig {
    /// Most memory that all open lanes may hold together, bytes; a lane is charged in full when it opens.
    pub bytes_max: u64,
}

impl Default for LanesConfig {
    fn default() -> Self {
        Self { bytes_max: 4 << 30 }
    }
}

/// `[journal]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JournalConfig {
    /// Directory of the segments; none: nothing is recorded.
    pub directory: Option<PathBuf>,
    /// Size of one segment, bytes.
    pub segment_bytes: u64,
    /// How far ahead of the writer pages are faulted in, bytes.
    pub prefault_bytes: u64,
    /// Most bytes of all segments; the oldest ones that a snapshot covers are used again.
    pub retention_bytes: u64,
    /// Segments that are kept ready with all their pages in memory.
    pub spare_segments: usize,
    /// Hours until the disk is full below which the sidecar is degraded.
    pub disk_hours_min: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            directory: None,
            segment_bytes: 256 << 20,
            prefault_bytes: 16 << 20,
            retention_bytes: 32 << 30,
            spare_segments: 0,
            disk_hours_min: 4,
        }
    }
}

impl JournalConfig {
    /// What types cannot say.
    fn check(&self) -> Result<(), String> {
        if !(1 << 20..=1 << 36).contains(&self.segment_bytes) || !self.segment_bytes.is_multiple_of(4096) {
            return Err("journal.segment_bytes must be 1 MiB to 64 GiB and a multiple of 4096".into());
        }
        if self.prefault_bytes > self.segment_bytes {
            return Err("journal.prefault_bytes must be at most journal.segment_bytes".into());
        }
        if self.spare_segments > SPARE_SEGMENTS_MAX {
            return Err(format!("journal.spare_segments must be 0 to {SPARE_SEGMENTS_MAX}"));
        }
        let segments_min = 3 + self.spare_segments as u64;
        if self.retention_bytes < segments_min * self.segment_bytes || self.retention_bytes > 1 << 50 {
            return Err(format!(
                "journal.retention_bytes must be at least {segments_min} segments of journal.segment_bytes ({} bytes): one that is \
                 written, one made ahead, one to use again, and the spares; and at most 1 PiB",
                segments_min * self.segment_bytes
            ));
        }
        if self.disk_hours_min > 10_000 {
            return Err("journal.disk_hours_min must be 0 to 10000".into());
        }
        Ok(())
    }
}

/// `[sequencer]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SequencerConfig {
    /// How long it spins without work before it also yields its core at each turn, microseconds.
    pub spin_us: u64,
    /// How long a lane may be quiet before the sequencer stops polling it, microseconds.
    pub park_after_us: u64,
    /// Core to pin the sequencer to.
    pub cpu: Option<usize>,
}

impl Default for SequencerConfig {
    fn default() -> Self {
        Self { spin_us: 50, park_after_us: 500, cpu: None }
    }
}

/// `[orders]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrdersConfig {
    /// Most resting orders in all books together.
    pub resting_orders_max: usize,
    /// Instruments, in the order of their symbol numbers; none: the 64 built-in ones.
    pub instruments: Vec<InstrumentConfig>,
    /// Accounts and their limits; none: 1 to 10,000 with the built-in limits.
    pub accounts: Vec<AccountsConfig>,
}

impl Default for OrdersConfig {
    fn default() -> Self {
        Self { resting_orders_max: 1 << 20, instruments: Vec::new(), accounts: Vec::new() }
    }
}

/// One `[[orders.instruments]]`.
#[derive(Debug, Clone, Deserialize)]
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
#[derive(Debug, Clone, Deserialize)]
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
}

/// Longest wait that can be configured, microseconds.
const WAIT_US_MAX: u64 = 60_000_000;

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
const BUILT_IN_ACCOUNTS: AccountsConfig =
    AccountsConfig { first: 1, last: 10_000, order_quantity_max: 1_000_000, position_max: 50_000_000, price_collar_bps: 2_000 };

impl Config {
    /// Reads a TOML file. An error names the file, the line and what is wrong.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let config: Self = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        config.check().map_err(|words| format!("{}: {words}", path.display()))?;
        Ok(config)
    }

    /// What types cannot say.
    fn check(&self) -> Result<(), String> {
        self.journal.check()?;
        if self.sequencer.spin_us > WAIT_US_MAX || self.sequencer.park_after_us > WAIT_US_MAX {
            return Err(format!("sequencer.spin_us and sequencer.park_after_us must be 0 to {WAIT_US_MAX} (one minute)"));
        }
        if !(1..=RESTING_ORDERS_MAX).contains(&self.orders.resting_orders_max) {
            return Err(format!("orders.resting_orders_max must be 1 to {RESTING_ORDERS_MAX}"));
        }
        if self.orders.instruments.len() > SYMBOLS_MAX as usize {
            return Err(format!("there can be {SYMBOLS_MAX} instruments at most"));
        }
        self.orders.instruments.iter().try_for_each(InstrumentConfig::check)?;
        let mut names = HashSet::new();
        if let Some(again) = self.orders.instruments.iter().find(|instrument| !names.insert(&instrument.name)) {
            return Err(format!("instrument {} stands in the list twice", again.name));
        }
        self.orders.accounts.iter().try_for_each(AccountsConfig::check)
    }
}

impl InstrumentConfig {
    fn check(&self) -> Result<(), String> {
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
    fn check(&self) -> Result<(), String> {
        if self.first < 1 || self.last < self.first || self.last > ACCOUNT_MAX || self.order_quantity_max < 0 || self.position_max < 0 {
            return Err(format!(
                "accounts {} to {}: they must ascend within 1 to {ACCOUNT_MAX}, with limits of 0 or more",
                self.first, self.last
            ));
        }
        Ok(())
    }
}

impl OrdersConfig {
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
    fn record(&self, symbol: u32) -> Instrument {
        let mut name = [0; 24];
        name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        Instrument {
            symbol,
            price_decimals: self.price_decimals,
            tick: self.tick,
            lot: self.lot,
            reference_price: self.reference_price,
            name,
            reserved: [0; 8],
        }
    }
}

impl AccountsConfig {
    fn record(&self) -> AccountLimits {
        AccountLimits {
            account_first: self.first,
            account_last: self.last,
            order_quantity_max: self.order_quantity_max,
            position_max: self.position_max,
            price_collar_bps: self.price_collar_bps,
            ..AccountLimits::default()
        }
    }
}
