//! The control socket's messages: what a client may ask, and how schemas are told. `layout/PROTOCOL.md` lists them.

use ringlane_layout::orders::{BookLevel, ENUMS, Instrument, OpenOrder, OrderEvent, OrderRequest, OrderResult, Position};
use ringlane_layout::record::{EnumSchema, Record, RecordSchema};
use ringlane_layout::region::LaneStatus;
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
    /// All instruments.
    Instruments,
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
    State,
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
    /// A refusal.
    pub fn new(code: &'static str, words: impl Into<String>) -> Self {
        Self { code, words: words.into() }
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
    let enums: Vec<_> = ENUMS.iter().copied().chain([LaneStatus::SCHEMA]).map(enum_schema).collect();
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

    #[test]
    fn messages_of_the_protocol_are_read() {
        assert_eq!(
            parse(br#"{"op":"query","what":"book","symbol":1,"levels":5}"#),
            Ok(Request::Query(Query::Book { symbol: 1, levels: 5 }))
        );
        assert_eq!(parse(br#"{"op":"query","what":"state"}"#), Ok(Request::Query(Query::State)));
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
        ] {
            let refusal = parse(message).unwrap_err();
            assert!(refusal.code == "PROTOCOL" && !refusal.words.is_empty(), "{message:?}");
        }
    }
}
