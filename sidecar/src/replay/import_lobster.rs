//! A LOBSTER message file as a recording. Resting orders are those of the file; an execution becomes an aggressor of that
//! price and size when the order that it names is at the head of its queue, and else takes the size off that order, because
//! then no price-time book could have traded it (a hidden part, a race).
//!
//! Orders that later messages name and no message enters stood in the book before: they are entered first, with the size that
//! is taken off them, by ascending id. Hidden executions (5), crosses (6) and halts (7) change no visible order.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use ringlane_layout::limits::BATCH_SLOTS_MAX;
use ringlane_layout::orders::{Op, OrderRequest, OrderType, Side, TimeInForce};
use serde_json::{Map, Value};

use super::import::{Recorder, Target};
use super::place::days_from_civil;
use crate::config::Config;

/// Accounts of resting orders and of aggressors.
const MAKER: u32 = 1;
const TAKER: u32 = 2;
/// Most messages.
const MESSAGES_MAX: usize = 1 << 28;
/// Decimals of LOBSTER's prices: dollars x 10,000.
const PRICE_DECIMALS: u32 = 4;

/// Options of `ringlane import lobster`.
#[derive(Debug, Args)]
pub struct LobsterArguments {
    /// The message file. Ticker and date are those of its name; times are seconds after that date's midnight.
    messages: PathBuf,
    #[command(flatten)]
    pub target: Target,
    /// Ticker [default: the file name's].
    #[arg(long)]
    ticker: Option<String>,
}

/// One line of a message file.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Message {
    time_ns: u64,
    kind: u8,
    id: u64,
    size: i64,
    price: i64,
    side: Side,
}

/// Makes the recording.
pub fn import(arguments: &LobsterArguments) -> Result<Map<String, Value>, String> {
    let path = &arguments.messages;
    let (ticker, midnight_ns) = of_name(path);
    let ticker = arguments.ticker.clone().or(ticker).ok_or_else(|| {
        format!("{}: its name is not TICKER_YYYY-MM-DD_START_END_message_LEVELS.csv; name the ticker with --ticker", path.display())
    })?;
    let messages = read(path, midnight_ns)?;
    let Some(first) = messages.first() else { return Err(format!("{}: there is no message in it", path.display())) };
    let mut recorder = Recorder::begin(&arguments.target.out, &configuration(&ticker, &messages)?, first.time_ns)?;
    let before = standing(&messages);
    let requests: Vec<OrderRequest> = before.iter().map(|(id, (size, message))| enter(*id, *size, message)).collect();
    for requests in requests.chunks(BATCH_SLOTS_MAX) {
        recorder.orders(1, first.time_ns, requests)?;
    }
    let counts = play(&mut recorder, &messages)?;
    let mut summary = Map::new();
    summary.insert("messages".into(), messages.len().into());
    summary.insert("orders_from_before".into(), before.len().into());
    summary.extend(counts);
    summary.extend(recorder.end()?);
    Ok(summary)
}

fn play(recorder: &mut Recorder, messages: &[Message]) -> Result<Map<String, Value>, String> {
    let (mut executions, mut out_of_turn, mut passed_over, mut refused, mut taker_id) = (0_u64, 0_u64, 0_u64, 0_u64, 0);
    for message in messages {
        let &Message { time_ns, kind, id, size, price, side } = message;
        let named = OrderRequest { symbol: 1, account: MAKER, client_order_id: id, ..OrderRequest::default() };
        let request = match kind {
            1 => enter(id, size, message),
            2 => OrderRequest { op: Op::Reduce as u8, quantity: size, ..named },
            3 => OrderRequest { op: Op::Cancel as u8, ..named },
            4 => {
                executions += 1;
                let head = recorder.engine().orders.fifo(1, side).next();
                let is_head = head
                    .is_some_and(|head| (head.client_order_id, head.price) == (id, price) && i64::from(head.remaining_quantity) >= size);
                if is_head {
                    taker_id += 1;
                    aggressor(taker_id, message)
                } else {
                    out_of_turn += 1;
                    OrderRequest { op: Op::Reduce as u8, quantity: size, ..named }
                }
            }
            _ => {
                passed_over += 1;
                continue;
            }
        };
        let lane = if request.account == TAKER { 2 } else { 1 };
        let answers = recorder.orders(lane, time_ns, &[request])?;
        refused += u64::from(answers.results[0].code != 0);
        if request.account == TAKER {
            let filled: Vec<u64> = answers.events.iter().map(|outgoing| outgoing.event.client_order_id).collect();
            assert_eq!(filled, [id], "the head of the queue trades first");
        }
    }
    let counts =
        [("executions", executions), ("executions_out_of_turn", out_of_turn), ("messages_passed_over", passed_over), ("refused", refused)];
    Ok(counts.into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect())
}

fn enter(id: u64, size: i64, message: &Message) -> OrderRequest {
    OrderRequest {
        op: Op::New as u8,
        side: message.side as u8,
        order_type: OrderType::Limit as u8,
        time_in_force: TimeInForce::Gtc as u8,
        symbol: 1,
        account: MAKER,
        client_order_id: id,
        price: message.price,
        quantity: size,
        ..OrderRequest::default()
    }
}

fn aggressor(taker_id: u64, message: &Message) -> OrderRequest {
    let side = if message.side == Side::Buy { Side::Sell } else { Side::Buy };
    let order = enter(taker_id, message.size, &Message { side, ..*message });
    OrderRequest { time_in_force: TimeInForce::Ioc as u8, account: TAKER, ..order }
}

/// Orders that are taken off and never entered: id, the size that comes off, and the message that names them first.
fn standing(messages: &[Message]) -> BTreeMap<u64, (i64, Message)> {
    let mut entered = std::collections::BTreeSet::new();
    let mut before: BTreeMap<u64, (i64, Message)> = BTreeMap::new();
    for message in messages {
        if message.kind == 1 {
            entered.insert(message.id);
        } else if message.kind <= 4 && !entered.contains(&message.id) {
            let (size, _) = before.entry(message.id).or_insert((0, *message));
            // More than an order may have is refused like any other order.
            *size = size.saturating_add(message.size);
        }
    }
    before
}

/// One instrument, two accounts, and no limits: the day had none.
fn configuration(ticker: &str, messages: &[Message]) -> Result<Config, String> {
    let divide = |a: i64, b: i64| {
        let (mut a, mut b) = (a, b);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    let step = messages.iter().filter(|message| message.kind <= 4).fold(100, |step, message| divide(step, message.price));
    let text = format!(
        "[orders]\nresting_orders_max = 4194304\n[[orders.instruments]]\nname = {ticker:?}\nprice_decimals = {PRICE_DECIMALS}\ntick = {step}\n\
         [[orders.accounts]]\nfirst = {MAKER}\nlast = {TAKER}\norder_quantity_max = 0\nposition_max = 0\nprice_collar_bps = 0\n"
    );
    Config::parse(&text)
}

/// Ticker and midnight from a file's name.
fn of_name(path: &Path) -> (Option<String>, u64) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut parts = name.split('_');
    let (Some(ticker), Some(date)) = (parts.next(), parts.next()) else { return (None, 0) };
    let numbers: Vec<i64> = date.split('-').filter_map(|part| part.parse().ok()).collect();
    match numbers[..] {
        [year @ 1970..=2262, month @ 1..=12, day @ 1..=31] => {
            (Some(ticker.to_owned()), days_from_civil(year, month, day) as u64 * 86_400_000_000_000)
        }
        _ => (None, 0),
    }
}

fn read(path: &Path, midnight_ns: u64) -> Result<Vec<Message>, String> {
    let say = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let file = BufReader::with_capacity(1 << 20, File::open(path).map_err(|error| say(&error))?);
    let mut messages = Vec::new();
    for (number, line) in (1..).zip(file.lines()) {
        let line = line.map_err(|error| say(&error))?;
        if line.trim().is_empty() {
            continue;
        }
        if messages.len() == MESSAGES_MAX {
            return Err(format!("{}: at most {MESSAGES_MAX} messages are read", path.display()));
        }
        messages.push(message(&line, midnight_ns).map_err(|words| format!("{} line {number}: {words}", path.display()))?);
    }
    Ok(messages)
}

/// One line: seconds, type, order id, size, price, direction of the resting order, and perhaps an attribution.
fn message(line: &str, midnight_ns: u64) -> Result<Message, String> {
    let columns: Vec<&str> = line.split(',').map(str::trim).collect();
    if !matches!(columns.len(), 6 | 7) {
        return Err(format!("{} columns where a LOBSTER message has 6; is this a message file, and whole?", columns.len()));
    }
    let whole =
        |index: usize, what: &str| columns[index].parse::<i64>().map_err(|_| format!("the {what} {:?} is no number", columns[index]));
    let (seconds, fraction) = columns[0].split_once('.').unwrap_or((columns[0], ""));
    let digits: String = fraction.chars().take(9).collect();
    let time = seconds.parse::<u64>().ok().filter(|seconds| *seconds <= 86_400).zip(format!("{digits:0<9}").parse::<u64>().ok());
    let (seconds, ns) = time.ok_or_else(|| format!("the time {:?} is not seconds after midnight", columns[0]))?;
    let kind = u8::try_from(whole(1, "type")?).ok().filter(|kind| (1..=7).contains(kind)).ok_or("the type is not 1 to 7")?;
    let (id, size, price) = (whole(2, "order id")?, whole(3, "size")?, whole(4, "price")?);
    let side = match whole(5, "direction")? {
        1 => Side::Buy,
        -1 => Side::Sell,
        _ if kind > 5 => Side::Buy,
        _ => return Err("the direction is neither 1 nor -1".into()),
    };
    if kind <= 4 && (id < 1 || size < 1 || price < 1) {
        return Err("the order id, size and price of a visible order are 1 at least".into());
    }
    Ok(Message { time_ns: midnight_ns + seconds * 1_000_000_000 + ns, kind, id: id.unsigned_abs(), size, price, side })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_names_are_read() {
        let (ticker, midnight_ns) = of_name(Path::new("/x/RING_2012-06-21_34200000_57600000_message_10.csv"));
        assert_eq!((ticker.as_deref(), midnight_ns), (Some("RING"), 1_340_236_800_000_000_000));
        assert_eq!(of_name(Path::new("RING_9223372036854775807-01-01_x.csv")), (None, 0));
        let read = message("34200.0171,4,16113575,18,5853300,-1", 0).unwrap();
        assert_eq!(read, Message { time_ns: 34_200_017_100_000, kind: 4, id: 16_113_575, size: 18, price: 5_853_300, side: Side::Sell });
        for wrong in ["", "1,2,3", "x,1,1,1,1,1", "1,8,1,1,1,1", "1,1,1,1,1,0", "1,1,0,1,1,1", "1,1,1,1,1,1,2,3"] {
            assert!(message(wrong, 0).is_err(), "{wrong}");
        }
    }
}
