//! The rules of the desk as a running sidecar tells them: instruments, halts and the limits in force, all after one record of its
//! journal. For people in words, for programs as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use ringlane_layout::orders::{AccountLimits, Instrument};
use serde_json::{Map, Value, json};

use crate::board::text_of;

/// Names of self-trade choices, by number.
pub const SELF_TRADES: [&str; 4] = ["allow", "cancel-newest", "cancel-oldest", "cancel-both"];

/// What administrators decided, and the configuration.
#[derive(Debug, PartialEq)]
pub struct Rules {
    /// Number of the last record that is taken into account.
    pub sequence: u64,
    /// Most orders that may rest in all books together.
    pub resting_orders_max: u64,
    /// Every instrument, ascending by symbol.
    pub instruments: Vec<Instrument>,
    /// Symbols that are halted.
    pub halted: Vec<u32>,
    /// Limits of accounts, then (with a symbol) those in a symbol. Ranges of equal limits are one.
    pub limits: Vec<AccountLimits>,
}

impl Rules {
    /// From the answer to the query `rules` and the rows that came with it.
    ///
    /// # Errors
    /// When the rows are not as many as announced.
    pub fn read(reply: &Value, bytes: &[u8]) -> Result<Self, String> {
        let number = |key: &str| reply[key].as_u64().unwrap_or_default();
        let mut rest = bytes;
        let mut take = |key: &str, size: usize| -> Result<&[u8], String> {
            let wanted = usize::try_from(number(key)).ok().and_then(|rows| rows.checked_mul(size));
            let (rows, behind) = wanted.and_then(|wanted| rest.split_at_checked(wanted)).ok_or("rows are missing")?;
            rest = behind;
            Ok(rows)
        };
        let instruments = take("instruments", size_of::<Instrument>())?;
        let halted = take("halted", size_of::<u32>())?;
        let limits = take("rows", size_of::<AccountLimits>())?;
        Ok(Self {
            sequence: number("sequence"),
            resting_orders_max: number("resting_orders_max"),
            instruments: instruments.chunks_exact(size_of::<Instrument>()).map(bytemuck::pod_read_unaligned).collect(),
            halted: halted.chunks_exact(size_of::<u32>()).map(bytemuck::pod_read_unaligned).collect(),
            limits: limits.chunks_exact(size_of::<AccountLimits>()).map(bytemuck::pod_read_unaligned).collect(),
        })
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let instruments = self.instruments.iter().map(|one| {
            json!({"symbol": one.symbol, "name": name(one), "price_decimals": one.price_decimals, "tick": one.tick, "lot": one.lot,
                   "reference_price": one.reference_price, "halted": self.halted.contains(&one.symbol)})
        });
        let limits = self.limits.iter().map(|record| {
            let mut row = Map::from_iter([("first".into(), json!(record.account_first)), ("last".into(), json!(record.account_last))]);
            row.insert("symbol".into(), json!(record.symbol));
            row.extend(numbers(record).map(|(key, value)| (key.into(), json!(value))));
            row.insert("group".into(), json!(record.group));
            row.insert("self_trade".into(), json!(self_trade(record)));
            Value::Object(row)
        });
        let groups: Map<String, Value> = self.groups().into_iter().map(|(group, ranges)| (group.to_string(), json!(ranges))).collect();
        json!({"ok": true, "sequence": self.sequence, "resting_orders_max": self.resting_orders_max, "halted": self.halted,
               "instruments": instruments.collect::<Value>(), "limits": limits.collect::<Value>(), "groups": groups})
    }

    /// Account groups other than 0, each with its ranges of accounts.
    fn groups(&self) -> BTreeMap<u32, Vec<(u32, u32)>> {
        let mut groups: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
        for record in self.limits.iter().filter(|record| record.group != 0) {
            groups.entry(record.group).or_default().push((record.account_first, record.account_last));
        }
        groups
    }

    /// For people.
    #[must_use]
    pub fn words(&self) -> String {
        let mut text = format!("after record {}; at most {} orders may rest\n", self.sequence, self.resting_orders_max);
        let names = |symbol: u32| self.instruments.iter().find(|one| one.symbol == symbol).map_or(symbol.to_string(), name);
        let halted: Vec<_> = self.halted.iter().map(|symbol| names(*symbol)).collect();
        let _ = writeln!(text, "halted: {}", if halted.is_empty() { "none".into() } else { halted.join(", ") });
        text.push_str("limits:\n");
        for record in &self.limits {
            let within = if record.symbol == 0 { String::new() } else { format!(" in {}", names(record.symbol)) };
            let set: Vec<_> = numbers(record).filter(|(_, value)| *value != 0).map(|(key, value)| format!("{key} {value}")).collect();
            let choice = (record.group, record.self_trade) != (0, 0);
            let choice = choice.then(|| format!("group {}, self_trade {}", record.group, self_trade(record)));
            let set: Vec<_> = set.into_iter().chain(choice).collect();
            let set = if set.is_empty() { "none".into() } else { set.join(", ") };
            let _ = writeln!(text, "  {}{within}: {set}", accounts((record.account_first, record.account_last)));
        }
        for (group, ranges) in self.groups() {
            let _ = writeln!(text, "group {group}: {}", ranges.into_iter().map(accounts).collect::<Vec<_>>().join(", "));
        }
        text.push_str("instruments:\n");
        for one in &self.instruments {
            let Instrument { symbol, price_decimals, tick, lot, reference_price, .. } = one;
            let reference = if *reference_price == 0 { String::new() } else { format!(", reference price {reference_price}") };
            let halted = if self.halted.contains(symbol) { ", halted" } else { "" };
            let _ = writeln!(text, "  {symbol} {}: tick {tick}, lot {lot}, {price_decimals} decimals{reference}{halted}", name(one));
        }
        text.pop();
        text
    }
}

fn name(instrument: &Instrument) -> String {
    text_of(&instrument.name)
}

fn self_trade(record: &AccountLimits) -> &'static str {
    SELF_TRADES.get(usize::from(record.self_trade)).copied().unwrap_or("unknown")
}

fn accounts((first, last): (u32, u32)) -> String {
    if first == last { format!("account {first}") } else { format!("accounts {first} to {last}") }
}

/// The limits by the names that the configuration has for them; 0 is none.
fn numbers(record: &AccountLimits) -> impl Iterator<Item = (&'static str, i64)> {
    [
        ("order_quantity_max", record.order_quantity_max),
        ("position_max", record.position_max),
        ("price_collar_bps", record.price_collar_bps.into()),
        ("order_notional_max", record.order_notional_max),
        ("exposure_max", record.exposure_max),
        ("open_orders_max", record.open_orders_max.into()),
        ("order_rate_max", record.order_rate_max.into()),
    ]
    .into_iter()
}
