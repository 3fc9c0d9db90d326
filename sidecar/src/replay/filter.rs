//! Which records a person wants to see: by lane, account, symbol, and from a place on. State is computed from everything.

use clap::Args;
use ringlane_layout::record::RecordSchema;

use super::columns::column;
use super::place::Place;
use crate::board::text_of;
use crate::engine::Engine;

/// Options that narrow what is shown; each may be given several times.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only what lies at this sequence number or time or behind it; state is computed from the beginning all the same.
    #[arg(long, value_name = "SEQ|TIME")]
    pub from: Option<Place>,
    /// Only records of this lane.
    #[arg(long)]
    pub lane: Vec<u32>,
    /// Only records that concern this account.
    #[arg(long)]
    pub account: Vec<u32>,
    /// Only records that concern this symbol: its name, or its number.
    #[arg(long)]
    pub symbol: Vec<String>,
}

impl Filter {
    /// Whether lanes, accounts or symbols were named.
    #[must_use]
    pub fn names_any(&self) -> bool {
        !(self.lane.is_empty() && self.account.is_empty() && self.symbol.is_empty())
    }

    /// Whether a record is wanted.
    #[must_use]
    pub fn wants(&self, engine: &Engine, (sequence, time_ns, lane): (u64, u64, u32), schema: &'static RecordSchema, bytes: &[u8]) -> bool {
        if self.from.is_some_and(|from| !from.is_reached(sequence, time_ns)) || (!self.lane.is_empty() && !self.lane.contains(&lane)) {
            return false;
        }
        let number = |name: &str| column(schema, name).map(|column| column.raw(&[bytes]) as u32);
        let range = || Some((number("account_first")?, number("account_last")?));
        let accounts = [number("account"), number("maker_account"), number("taker_account")];
        let of_account =
            |wanted: &u32| accounts.contains(&Some(*wanted)) || range().is_some_and(|(first, last)| (first..=last).contains(wanted));
        if !self.account.is_empty() && !self.account.iter().any(of_account) {
            return false;
        }
        // Symbol 0 stands for every symbol.
        let of_symbol =
            |wanted: &String| number("symbol").is_some_and(|symbol| symbol == 0 || symbol_number(engine, wanted) == Some(symbol));
        self.symbol.is_empty() || self.symbol.iter().any(of_symbol)
    }
}

/// The number of a symbol that is named or numbered.
#[must_use]
pub fn symbol_number(engine: &Engine, text: &str) -> Option<u32> {
    let instruments = engine.orders.instruments();
    let named = instruments.iter().find(|instrument| text_of(&instrument.name) == text).map(|instrument| instrument.symbol);
    named.or_else(|| text.parse().ok().filter(|number| (1..=instruments.len() as u32).contains(number)))
}
