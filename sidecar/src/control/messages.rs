//! The control socket's messages: what a client may ask, and how schemas are told. `layout/PROTOCOL.md` lists them.

use ringlane_layout::limits::REFUSAL_BYTES_MAX;
use ringlane_layout::orders::{BookLevel, Instrument, OpenOrder, OrderEvent, OrderRequest, OrderResult, Position};
use ringlane_layout::record::{EnumSchema, Record, RecordSchema};
use serde::Deserialize;
use serde_json::{Value, json};

/// A request. Unknown keys and operations are refused.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// First message of a connection.
    Hello {
        /// Layout version of the client.
        layout_version: u32,
        /// Build hash of the client.
        #[serde(default)]
        build: String,
        /// Name for the board and the log.
        #[serde(default)]
        name: String,
    },
    /// Open a lane.
    Open {
        /// Kernel name.
        kernel: String,
        /// Slots.
        depth: u64,
        /// Events in the event ring; as many as slots when absent.
        #[serde(default)]
        events: Option<u64>,
        /// Whether the lane's orders are cancelled when it ends.
        #[serde(default)]
        cancel_on_disconnect: bool,
        /// First and last account that the lane uses; all when absent.
        #[serde(default)]
        accounts: Option<(u32, u32)>,
    },
    /// Close a lane.
    Close {
        /// Lane number.
        lane: u32,
    },
    /// Ask about the state.
    Query(Query),
}

/// A question about the state.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(tag = "what", rename_all = "lowercase", deny_unknown_fields)]
pub enum Query {
    /// All instruments. Braces here and below: serde lets a variant without them have any keys.
    Instruments {},
    /// Open orders of an account.
    Orders {
        /// Account number.
        account: u32,
    },
    /// Positions of an account.
    Positions {
        /// Account number.
        account: u32,
    },
    /// Price levels of a book.
    Book {
        /// Symbol number.
        symbol: u32,
        /// Levels a side.
        levels: u32,
    },
    /// State hash and counters.
    State {},
}

/// A refusal: a code that programs read, and words that people read.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of the codes of `PROTOCOL.md`.
    pub code: &'static str,
    /// What happened, why, and what to do.
    pub words: String,
}

impl Refusal {
    /// A refusal; words that quote too much of the client's message are cut.
    pub fn new(code: &'static str, words: impl Into<String>) -> Self {
        let mut words = words.into();
        if words.len() > REFUSAL_BYTES_MAX {
            let cut = (0..=REFUSAL_BYTES_MAX - 3).rev().find(|at| words.is_char_boundary(*at));
            words.truncate(cut.unwrap_or(0));
            words.push_str("...");
        }
        Self { code, words }
    }

    /// Its reply.
    #[must_use]
    pub fn reply(&self) -> Value {
        json!({"ok": false, "error": self.code, "message": self.words})
    }
}

/// Reads one message.
pub fn parse(message: &[u8]) -> Result<Request, Refusal> {
    serde_json::from_slice(message).map_err(|error| Refusal::new("PROTOCOL", format!("not a message of this protocol: {error}")))
}

/// A record's schema.
#[must_use]
pub fn record_schema(schema: &RecordSchema) -> Value {
    let fields: Vec<_> = schema
        .fields
        .iter()
        .map(|field| {
            json!({"name": field.name, "type": field.type_name, "offset": field.offset_bytes, "size": field.size_bytes,
                   "enum": field.enum_name, "doc": field.doc})
        })
        .collect();
    json!({"name": schema.name, "size": schema.size_bytes, "hash": format!("{:016x}", schema.hash()), "doc": schema.doc, "fields": fields})
}

fn enum_schema(schema: &EnumSchema) -> Value {
    let members: Vec<_> =
        schema.members.iter().map(|member| json!({"name": member.name, "value": member.value, "doc": member.doc})).collect();
    json!({"name": schema.name, "doc": schema.doc, "flags": schema.is_flags, "members": members})
}

/// Schemas of an order lane: request, result, event and every enum that stands in them.
#[must_use]
pub fn order_lane_schemas() -> Value {
    let enums: Vec<_> = ringlane_layout::enums().map(enum_schema).collect();
    json!({
        "request": record_schema(OrderRequest::SCHEMA),
        "result": record_schema(OrderResult::SCHEMA),
        "event": record_schema(OrderEvent::SCHEMA),
        "enums": enums,
    })
}

/// Schemas of the rows that queries answer with.
#[must_use]
pub fn row_schemas() -> Value {
    let schemas = [Instrument::SCHEMA, OpenOrder::SCHEMA, Position::SCHEMA, BookLevel::SCHEMA];
    schemas.into_iter().map(record_schema).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::{RngSeed, TestRunner};
    use std::hash::{BuildHasher, RandomState};

    /// Objects of this protocol's words with values of every kind, nested now and then; and bytes of any kind.
    fn message() -> impl Strategy<Value = Vec<u8>> {
        const WORDS: [&str; 13] =
            ["op", "hello", "open", "close", "query", "what", "book", "orders", "lane", "depth", "accounts", "layout_version", "name"];
        let word = prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
        let leaf = prop_oneof![
            4 => word.clone().prop_map(Value::from),
            3 => any::<u32>().prop_map(Value::from),
            1 => any::<i64>().prop_map(Value::from),
            1 => any::<f64>().prop_map(Value::from),
            1 => any::<bool>().prop_map(Value::from),
            1 => ".*".prop_map(Value::from),
            1 => (".", 1..3000_usize).prop_map(|(text, times)| Value::from(text.repeat(times))),
            1 => Just(Value::Null),
        ];
        let value = leaf.prop_recursive(2, 12, 4, |inner| prop::collection::vec(inner, 0..4).prop_map(Value::from));
        let object = prop::collection::vec((word, value), 0..6).prop_map(|members| {
            let texts: Vec<_> = members.iter().map(|(key, value)| format!("{key:?}:{value}")).collect();
            format!("{{{}}}", texts.join(",")).into_bytes() // keys may come twice
        });
        let cut = (object.clone(), any::<prop::sample::Index>()).prop_map(|(bytes, at)| bytes[..at.index(bytes.len() + 1)].to_vec());
        prop_oneof![6 => object, 2 => cut, 1 => prop::collection::vec(any::<u8>(), 0..200)]
    }

    #[test]
    fn any_message_is_read_or_refused() {
        let seed = std::env::var("RINGLANE_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
        let config =
            ProptestConfig { cases: 20_000, failure_persistence: None, rng_seed: RngSeed::Fixed(seed), ..ProptestConfig::default() };
        let outcome = TestRunner::new(config).run(&message(), |bytes| {
            if let Err(refusal) = parse(&bytes) {
                prop_assert_eq!(refusal.code, "PROTOCOL");
                prop_assert!(refusal.words.len() <= REFUSAL_BYTES_MAX, "words of {} bytes", refusal.words.len());
            }
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("repeat with RINGLANE_SEED={seed}\n{error}"));
    }

    #[test]
    fn deep_nesting_is_refused() {
        for open in ["[", "{\"op\":"] {
            assert!(parse(open.repeat(65_536 / open.len()).as_bytes()).is_err());
        }
    }

    #[test]
    fn messages_of_the_protocol_are_read() {
        assert_eq!(
            parse(br#"{"op":"query","what":"book","symbol":1,"levels":5}"#),
            Ok(Request::Query(Query::Book { symbol: 1, levels: 5 }))
        );
        assert_eq!(parse(br#"{"op":"query","what":"state"}"#), Ok(Request::Query(Query::State {})));
        let open = parse(br#"{"op":"open","kernel":"orders","depth":64,"accounts":[1,9]}"#).unwrap();
        assert!(matches!(open, Request::Open { depth: 64, accounts: Some((1, 9)), events: None, .. }));
    }

    #[test]
    fn everything_else_is_refused_in_words() {
        for message in [
            &b""[..],
            b"{}",
            b"[]",
            b"\xff",
            br#"{"op":"open"}"#,
            br#"{"op":"fly"}"#,
            br#"{"op":"close","lane":-1}"#,
            br#"{"op":"close","lane":1,"x":2}"#,
            br#"{"op":"close","lane":1,"lane":2}"#,
            br#"{"op":"query","what":"state","op":"query"}"#,
            br#"{"op":"query","what":"state","account":2}"#,
            br#"{"op":"hello","layout_version":1,"name":null}"#,
        ] {
            let refusal = parse(message).unwrap_err();
            assert!(refusal.code == "PROTOCOL" && !refusal.words.is_empty(), "{message:?}");
        }
    }
}
