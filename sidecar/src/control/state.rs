//! Questions about the state: open orders, positions, books, instruments, rules in force, and the state as one hash, each at one
//! sequence number.

use crossbeam::channel::bounded;
use ringlane_layout::limits::{ACCOUNT_MAX, QUERY_ROWS_MAX, SYMBOLS_MAX};
use ringlane_layout::orders::AccountLimits;
use serde_json::{Value, json};

use super::access::{Grant, not_permitted};
use super::messages::{Query, Refusal};
use super::session::{Host, Reply};
use crate::engine::Engine;
use crate::lanes::sealed_rows;
use crate::sequencer::Command;
use crate::world;

/// Answers what this user may know, with what the sequencer's engine says between two turns.
pub(super) fn ask(query: Query, grant: &Grant, host: &mut Host, uid: u32) -> Result<Reply, Refusal> {
    let answer = answer_to(query, grant, host, uid);
    // Also one that is refused was read, and is answered.
    let bytes = answer.as_ref().map_or(0, |(_, bytes)| *bytes);
    host.questions.charge_answer(uid, bytes, world::now());
    answer.map(|(reply, _)| reply)
}

/// The same, and how many bytes the rows have; only the sequencer's part is paid.
fn answer_to(query: Query, grant: &Grant, host: &mut Host, uid: u32) -> Result<(Reply, usize), Refusal> {
    let question = Question::new(query)?;
    if let Question::Orders(account) | Question::Positions(account) = question {
        grant.accounts(account, account)?;
    }
    if matches!(question, Question::Rules) && !grant.administer {
        return Err(not_permitted("this user may not administer the sidecar, and limits are told to administrators".into()));
    }
    let (answer, answered) = bounded(1);
    let asking = Box::new(move |engine: &Engine| {
        let began = world::now();
        let found = look_up(question, engine);
        let _ = answer.send((found, world::now() - began));
    });
    let stopping = || Refusal::new("STOPPING", "the sidecar is stopping");
    if !host.commands.send(Command::Query(asking)) {
        return Err(stopping());
    }
    let (found, took) = world::wait_for(&answered, None).map_err(|_| stopping())?;
    host.questions.charge(uid, took, world::now());
    let (mut body, rows) = found?;
    body["ok"] = json!(true);
    let Some(rows) = rows else { return Ok((body.into(), 0)) };
    let memory = sealed_rows(&rows).map_err(|words| Refusal::new("MEMORY", words))?;
    let memfd = memory.hand_out(false).map_err(|error| Refusal::new("MEMORY", format!("no descriptor can be had: {error}")))?;
    host.ledger.charge_reply(uid, rows.len() as u64, memory)?;
    Ok((Reply::with(body, [memfd]), rows.len()))
}

type Answer = Result<(Value, Option<Vec<u8>>), Refusal>;

/// A query whose numbers are in their ranges.
#[derive(Clone, Copy)]
enum Question {
    Instruments,
    Orders(u32),
    Positions(u32),
    Book(u32, u32),
    State,
    Rules,
}

impl Question {
    fn new(query: Query) -> Result<Self, Refusal> {
        Ok(match query {
            Query::Instruments {} => Self::Instruments,
            Query::Orders { account } => Self::Orders(account.within("account", 1, ACCOUNT_MAX)?),
            Query::Positions { account } => Self::Positions(account.within("account", 1, ACCOUNT_MAX)?),
            Query::Book { symbol, levels } => {
                Self::Book(symbol.within("symbol", 1, SYMBOLS_MAX)?, levels.within("levels", 1, QUERY_ROWS_MAX as u32)?)
            }
            Query::State {} => Self::State,
            Query::Rules {} => Self::Rules,
        })
    }
}

fn look_up(question: Question, engine: &Engine) -> Answer {
    let sequence = engine.next_sequence() - 1;
    let orders = &engine.orders;
    fn rows<T: bytemuck::Pod>(sequence: u64, name: &str, rows: &[T]) -> (Value, Option<Vec<u8>>) {
        (json!({"sequence": sequence, "rows": rows.len(), "row": name}), Some(bytemuck::cast_slice(rows).to_vec()))
    }
    let (body, rows) = match question {
        Question::Instruments => rows(sequence, "Instrument", &orders.instruments()),
        Question::Orders(account) => {
            let (last, open) = orders.open_orders(account);
            let (mut body, bytes) = rows(sequence, "OpenOrder", &open);
            body["last_client_order_id"] = json!(last);
            (body, bytes)
        }
        Question::Positions(account) => {
            let (mut body, bytes) = rows(sequence, "Position", &orders.positions(account));
            body["last_client_order_id"] = json!(orders.last_client_order_id(account));
            (body, bytes)
        }
        Question::Book(symbol, levels) => {
            let unknown = || Refusal::new("BAD_VALUE", format!("there is no symbol {symbol}"));
            rows(sequence, "BookLevel", &orders.book(symbol, levels as usize).ok_or_else(unknown)?)
        }
        Question::Rules => {
            // Instruments and symbols that are halted stand before the limits, all of them at one sequence number.
            let (instruments, halted) = (orders.instruments(), orders.halted());
            let limits: Vec<AccountLimits> = orders.account_limits().into_iter().chain(orders.symbol_limits()).collect();
            let mut bytes = bytemuck::cast_slice(&instruments).to_vec();
            bytes.extend_from_slice(bytemuck::cast_slice(&halted));
            bytes.extend_from_slice(bytemuck::cast_slice(&limits));
            let body = json!({
                "sequence": sequence, "rows": limits.len(), "row": "AccountLimits", "instruments": instruments.len(),
                "halted": halted.len(), "resting_orders_max": orders.resting_orders_max(),
            });
            (body, Some(bytes))
        }
        Question::State => {
            let counters = orders.counters();
            let body = json!({
                "sequence": sequence, "state_hash": format!("{:016x}", orders.state_hash()), "accepted": counters.accepted,
                "rejected": counters.rejected, "trades": counters.trades, "resting": counters.resting,
            });
            (body, None)
        }
    };
    if body["rows"].as_u64().is_some_and(|rows| rows > QUERY_ROWS_MAX) {
        return Err(Refusal::new("QUOTA", format!("the answer has {} rows, and {QUERY_ROWS_MAX} are the most", body["rows"])));
    }
    Ok((body, rows))
}
