//! `ringlane admin`: what administrators do to a running sidecar, from a shell. Each act is the message that `client.admin`
//! sends, and so a numbered record of the journal.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config::{AccountsConfig, InstrumentConfig};
use crate::control::{AdminRequest, Caller, Failure, Number, Request};
use crate::rules::SELF_TRADES;

/// Act, and how it is told.
#[derive(Args)]
pub struct AdminArguments {
    #[command(subcommand)]
    act: Act,
    /// Address of the sidecar [default: $RINGLANE_SOCKET, else the system's].
    #[arg(long, global = true)]
    address: Option<String>,
    /// As JSON; a refusal too: error, message, remedy.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Act {
    /// Set the limits of accounts, which exist from then on. All limits of the range are replaced, and 0 is none: name every
    /// limit that shall hold. They hold beyond a restart, until an administrator or a changed entry of the configuration says otherwise.
    Limits(LimitsArguments),
    /// Show instruments, halts, limits and groups in force, after one record of the journal.
    Show,
    /// Halt a symbol, or all: orders can be cancelled and reduced, not entered or replaced. Auctions are not included.
    Halt(Symbols),
    /// End the halt of a symbol, or of all.
    Resume(Symbols),
    /// Cancel the orders and waiting stops of a symbol, account and owner lane, as far as each is given.
    CancelAll(Selection),
    /// End a lane; what it submitted is completed first.
    Disconnect {
        /// Lane number, as `ringlane status` tells it.
        lane: u32,
    },
    /// Change what is traded.
    Instrument {
        #[command(subcommand)]
        act: InstrumentAct,
    },
    /// End the trading day by a time record: DAY orders expire.
    EndDay,
    /// Have a time record written now.
    TellTime,
}

#[derive(Subcommand)]
enum InstrumentAct {
    /// Add an instrument behind the others; gives its symbol number.
    Add {
        /// Symbol name, 1 to 24 printable ASCII characters.
        name: String,
        /// Decimals of a price.
        #[arg(long, default_value_t = 4)]
        price_decimals: u32,
        /// Smallest price step, price units.
        #[arg(long, default_value_t = 1)]
        tick: i64,
        /// Smallest quantity step.
        #[arg(long, default_value_t = 1)]
        lot: i64,
        /// Price for the collar before the first trade, price units; 0 for none.
        #[arg(long, default_value_t = 0)]
        reference_price: i64,
    },
}

#[derive(Args)]
struct LimitsArguments {
    /// First account.
    first: u32,
    /// Last account [default: the first].
    last: Option<u32>,
    /// Symbol, by name or number, in which alone these limits hold, beside those of the account.
    #[arg(long)]
    symbol: Option<String>,
    /// Largest quantity of one order.
    #[arg(long, default_value_t = 0)]
    order_quantity_max: i64,
    /// Largest absolute position in one symbol.
    #[arg(long, default_value_t = 0)]
    position_max: i64,
    /// Price collar, basis points of the last trade or reference price.
    #[arg(long, default_value_t = 0)]
    price_collar_bps: u32,
    /// Largest price x quantity of one order, price units x quantity.
    #[arg(long, default_value_t = 0)]
    order_notional_max: i64,
    /// Largest worth of the open orders of one side, price units x quantity.
    #[arg(long, default_value_t = 0)]
    exposure_max: i64,
    /// Most open orders.
    #[arg(long, default_value_t = 0)]
    open_orders_max: u32,
    /// Most orders in one second of sequenced time.
    #[arg(long, default_value_t = 0)]
    order_rate_max: u32,
    /// Account group for self-trade prevention; 0: each account by itself.
    #[arg(long, default_value_t = 0)]
    group: u32,
    /// What becomes of a trade within the group: allow, cancel-newest, cancel-oldest, cancel-both.
    #[arg(long, default_value = "allow", value_parser = SELF_TRADES)]
    self_trade: String,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Symbols {
    /// Name or number of the symbol.
    symbol: Option<String>,
    /// Every symbol.
    #[arg(long)]
    all: bool,
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct Selection {
    /// Name or number of a symbol.
    #[arg(long, conflicts_with = "all")]
    symbol: Option<String>,
    /// Account number.
    #[arg(long, conflicts_with = "all")]
    account: Option<u32>,
    /// Number of the lane that owns the orders.
    #[arg(long, conflicts_with = "all")]
    lane: Option<u32>,
    /// Every order of everybody.
    #[arg(long)]
    all: bool,
}

/// Does it, at the address that is meant. Exit code: 0 done, 1 refused, 2 no sidecar or no answer.
#[must_use]
pub fn run(arguments: &AdminArguments, address_of: impl FnOnce(Option<String>) -> String) -> ExitCode {
    match carry_out(&arguments.act, &address_of(arguments.address.clone())) {
        Ok((_, reply)) if arguments.json => println!("{reply:#}"),
        Ok((words, _)) => println!("{words}"),
        Err(failure) => {
            if arguments.json {
                println!("{:#}", failure.reply());
            } else {
                eprintln!("ringlane: {} ({})\nremedy: {}", failure.words, failure.code, failure.remedy);
            }
            return ExitCode::from(if failure.is_refusal() { 1 } else { 2 });
        }
    }
    ExitCode::SUCCESS
}

/// What was done in words, and as the sidecar answered.
fn carry_out(act: &Act, address: &str) -> Result<(String, Value), Failure> {
    let mut caller = Caller::connect(address)?;
    let Some(request) = request(act, &mut caller)? else {
        let rules = caller.rules()?;
        return Ok((rules.words(), rules.json()));
    };
    let what = serde_json::to_value(&request).unwrap_or_default();
    let (reply, _) = caller.ask(Request::Admin(request))?;
    let count = reply["count"].as_u64().unwrap_or_default();
    let mut told = json!({"ok": true, "what": what["what"], "count": count});
    if let Act::Instrument { .. } = act {
        told["symbol"] = json!(count);
    }
    Ok((words(act, count), told))
}

/// What an act asks for. None: it only looks.
fn request(act: &Act, caller: &mut Caller) -> Result<Option<AdminRequest>, Failure> {
    let whole = |number: u32| Number::Whole(number.into());
    let mut symbol = |given: &Option<String>| given.as_deref().map_or(Ok(0), |given| caller.symbol(given));
    Ok(Some(match act {
        Act::Show => return Ok(None),
        Act::Limits(limits) => AdminRequest::Limits { limits: limits.config(symbol(&limits.symbol)?) },
        Act::Halt(symbols) => AdminRequest::Halt { symbol: whole(symbol(&symbols.symbol)?) },
        Act::Resume(symbols) => AdminRequest::Resume { symbol: whole(symbol(&symbols.symbol)?) },
        Act::CancelAll(Selection { symbol: given, account, lane, .. }) => {
            // A number 0 would restrict nothing.
            if account.or(*lane) == Some(0) || *lane == Some(0) {
                let words = "accounts and lanes are numbered from 1";
                return Err(Failure::new("BAD_VALUE", words, "give a number, or --all for every order of everybody"));
            }
            let number = |given: &Option<u32>| whole(given.unwrap_or(0));
            AdminRequest::CancelAll { symbol: whole(symbol(given)?), account: number(account), lane: number(lane) }
        }
        Act::Disconnect { lane } => AdminRequest::Disconnect { lane: whole(*lane) },
        Act::Instrument { act: InstrumentAct::Add { name, price_decimals, tick, lot, reference_price } } => {
            let (price_decimals, tick, lot, reference_price) = (*price_decimals, *tick, *lot, *reference_price);
            AdminRequest::AddInstrument { instrument: InstrumentConfig { name: name.clone(), price_decimals, tick, lot, reference_price } }
        }
        Act::EndDay => AdminRequest::Time { ends_day: true },
        Act::TellTime => AdminRequest::Time { ends_day: false },
    }))
}

impl LimitsArguments {
    fn config(&self, symbol: u32) -> AccountsConfig {
        AccountsConfig {
            first: self.first,
            last: self.last.unwrap_or(self.first),
            order_quantity_max: self.order_quantity_max,
            position_max: self.position_max,
            price_collar_bps: self.price_collar_bps,
            order_notional_max: self.order_notional_max,
            exposure_max: self.exposure_max,
            open_orders_max: self.open_orders_max,
            order_rate_max: self.order_rate_max,
            symbol,
            group: self.group,
            self_trade: SELF_TRADES.iter().position(|name| *name == self.self_trade).unwrap_or(0) as u8,
        }
    }
}

fn words(act: &Act, count: u64) -> String {
    let named = |symbols: &Symbols| symbols.symbol.clone().unwrap_or_else(|| "every symbol".into());
    match act {
        Act::Show => String::new(), // it has words of its own
        Act::Limits(LimitsArguments { first, last, symbol, .. }) => {
            let accounts =
                last.filter(|last| last != first).map_or(format!("account {first}"), |last| format!("accounts {first} to {last}"));
            let within = symbol.as_ref().map(|symbol| format!(" in {symbol}")).unwrap_or_default();
            format!("{accounts}: limits set{within}")
        }
        Act::Halt(symbols) => format!("{}: halted", named(symbols)),
        Act::Resume(symbols) => format!("{}: trading again", named(symbols)),
        Act::CancelAll(_) => format!("{count} orders cancelled"),
        Act::Disconnect { lane } => format!("lane {lane}: ended"),
        Act::Instrument { act: InstrumentAct::Add { name, .. } } => format!("{name}: symbol {count}"),
        Act::EndDay => format!("the trading day ended at {count} ns"),
        Act::TellTime => format!("it is {count} ns"),
    }
}
