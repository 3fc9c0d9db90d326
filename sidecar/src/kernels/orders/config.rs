//! Configuration records and why one is refused. Orders never enter here.

use std::fmt;

use ringlane_layout::limits::{ACCOUNT_MAX, ORDER_PRICE_MAX, ORDER_QUANTITY_MAX, PRICE_DECIMALS_MAX, SYMBOLS_MAX};
use ringlane_layout::orders::{AccountLimits, Instrument};

/// Why a configuration record was refused. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The symbol number is not the one behind the last.
    SymbolNumber {
        /// The number in the record.
        symbol: u32,
        /// The number that is due.
        expected: u32,
    },
    /// There are as many symbols as there may be.
    TooManySymbols,
    /// The name is empty, not printable ASCII, or has bytes behind its end.
    BadName {
        /// The symbol's number.
        symbol: u32,
    },
    /// Another symbol has this name.
    DuplicateName {
        /// The symbol's number.
        symbol: u32,
    },
    /// The tick is not between 1 and the largest price.
    BadTick {
        /// The symbol's number.
        symbol: u32,
    },
    /// The lot is not between 1 and the largest quantity.
    BadLot {
        /// The symbol's number.
        symbol: u32,
    },
    /// The reference price is negative or above the largest price.
    BadReferencePrice {
        /// The symbol's number.
        symbol: u32,
    },
    /// A price cannot have so many decimals.
    TooManyDecimals {
        /// The symbol's number.
        symbol: u32,
    },
    /// The range of accounts is empty, begins at 0 or ends behind the highest account.
    AccountRange {
        /// First account of the record.
        first: u32,
        /// Last account of the record.
        last: u32,
    },
    /// A limit is negative.
    NegativeLimit {
        /// First account of the record.
        first: u32,
    },
    /// The self-trade number has no meaning.
    BadSelfTrade {
        /// First account of the record.
        first: u32,
    },
    /// Limits in a symbol name a group, or a symbol that does not exist.
    BadSymbolLimits {
        /// The symbol of the record.
        symbol: u32,
    },
    /// There are too many different limits.
    TooManyLimits,
    /// Reserved bytes of the record are not zero.
    ReservedNotZero,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::SymbolNumber { symbol, expected } => {
                write!(f, "symbol number {symbol} is out of turn: symbols are numbered from 1 without gap, the next one is {expected}")
            }
            Self::TooManySymbols => write!(f, "there are {SYMBOLS_MAX} symbols already, the most that one sidecar can have"),
            Self::BadName { symbol } => {
                write!(f, "symbol {symbol}: the name must be 1 to 24 printable ASCII characters without spaces, padded with zero bytes")
            }
            Self::DuplicateName { symbol } => write!(f, "symbol {symbol}: another symbol has the same name"),
            Self::BadTick { symbol } => write!(f, "symbol {symbol}: the tick must be from 1 to {ORDER_PRICE_MAX} price units"),
            Self::BadLot { symbol } => write!(f, "symbol {symbol}: the lot must be from 1 to {ORDER_QUANTITY_MAX}"),
            Self::BadReferencePrice { symbol } => {
                write!(f, "symbol {symbol}: the reference price must be from 0 (none) to {ORDER_PRICE_MAX} price units")
            }
            Self::TooManyDecimals { symbol } => write!(f, "symbol {symbol}: a price has at most {PRICE_DECIMALS_MAX} decimals"),
            Self::AccountRange { first, last } => {
                write!(
                    f,
                    "accounts {first} to {last}: a range begins at 1 or later, ends not before it begins, and at {ACCOUNT_MAX} at the latest"
                )
            }
            Self::NegativeLimit { first } => write!(f, "accounts from {first}: a limit cannot be negative; 0 means no limit"),
            Self::BadSelfTrade { first } => write!(f, "accounts from {first}: the self-trade number must be from 0 to 3"),
            Self::BadSymbolLimits { symbol } => {
                write!(
                    f,
                    "limits in symbol {symbol}: the symbol must exist, and group and self-trade choice belong to limits without a symbol"
                )
            }
            Self::TooManyLimits => write!(f, "there are too many different account limits"),
            Self::ReservedNotZero => write!(f, "reserved bytes of the record are not zero"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Checks everything that one instrument's record can say wrong by itself, `expected` being the number that is due.
pub(super) fn check_instrument(record: &Instrument, expected: u32) -> Result<(), ConfigError> {
    let symbol = record.symbol;
    if expected > SYMBOLS_MAX {
        return Err(ConfigError::TooManySymbols);
    }
    if symbol != expected {
        return Err(ConfigError::SymbolNumber { symbol, expected });
    }
    let name_len = record.name.iter().position(|&byte| byte == 0).unwrap_or(record.name.len());
    let (name, padding) = record.name.split_at(name_len);
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) || padding.iter().any(|&byte| byte != 0) {
        return Err(ConfigError::BadName { symbol });
    }
    if !(1..=ORDER_PRICE_MAX).contains(&record.tick) {
        return Err(ConfigError::BadTick { symbol });
    }
    if !(1..=ORDER_QUANTITY_MAX).contains(&record.lot) {
        return Err(ConfigError::BadLot { symbol });
    }
    if !(0..=ORDER_PRICE_MAX).contains(&record.reference_price) {
        return Err(ConfigError::BadReferencePrice { symbol });
    }
    if record.price_decimals > PRICE_DECIMALS_MAX {
        return Err(ConfigError::TooManyDecimals { symbol });
    }
    if record.reserved != [0; 4] || record.live > 1 {
        return Err(ConfigError::ReservedNotZero);
    }
    Ok(())
}

/// Checks the accounts and the symbol that a limits record names, where there are `symbols` symbols.
pub(super) fn check_range(record: &AccountLimits, symbols: u32) -> Result<(), ConfigError> {
    let (first, last, symbol) = (record.account_first, record.account_last, record.symbol);
    if first == 0 || first > last || last > ACCOUNT_MAX {
        return Err(ConfigError::AccountRange { first, last });
    }
    if symbol != 0 && (symbol > symbols || record.group != 0 || record.self_trade != 0) {
        return Err(ConfigError::BadSymbolLimits { symbol });
    }
    Ok(())
}
