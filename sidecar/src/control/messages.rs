//! The control socket's messages: what a client may ask, and how schemas are told. `layout/PROTOCOL.md` lists them.

use std::fmt;

use ringlane_layout::limits::REFUSAL_BYTES_MAX;
use ringlane_layout::orders::{AccountLimits, BookLevel, Instrument, OpenOrder, OrderEvent, OrderRequest, OrderResult, Position};
use ringlane_layout::record::{EnumSchema, Record, RecordSchema};
use ringlane_layout::region::LaneStatus;
use ringlane_layout::schema::{SlotField, SlotSchema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::kernels::door::LaneShape;

/// A number of a message. Any number is read, so that one out of its range can be refused in words without ending the
/// connection, and with it the client's lanes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole number of 64 bits.
    Whole(i128),
    /// Any other.
    Other(f64),
}

impl Number {
    /// The number, if it lies between `first` and `last`; else a refusal that names the range.
    pub fn within(self, name: &str, first: u32, last: u32) -> Result<u32, Refusal> {
        let fits = |whole: &u32| (first..=last).contains(whole);
        let whole = if let Self::Whole(whole) = self { u32::try_from(whole).ok() } else { None };
        whole
            .filter(fits)
            .ok_or_else(|| Refusal::new("BAD_VALUE", format!("{name} must be a whole number from {first} to {last}, not {self}")))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(whole) => write!(formatter, "{whole}"),
            Self::Other(number) => write!(formatter, "{number:?}"),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Numbers;
        impl Visitor<'_> for Numbers {
            type Value = Number;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number")
            }
            fn visit_u64<E>(self, whole: u64) -> Result<Number, E> {
                Ok(Number::Whole(whole.into()))
            }
            fn visit_i64<E>(self, whole: i64) -> Result<Number, E> {
                Ok(Number::Whole(whole.into()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Number, E> {
                Ok(Number::Other(number))
            }
        }
        deserializer.deserialize_any(Numbers)
    }
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(whole) => serializer.serialize_i128(*whole),
            Self::Other(number) => serializer.serialize_f64(*number),
        }
    }
}

/// A request, and the number by which its reply is known.
#[derive(Debug, Deserialize, Serialize, PartialEq)]
pub struct Message {
    /// Echoed in the reply.
    #[serde(default)]
    pub id: Option<u64>,
    /// What is asked.
    #[serde(flatten)]
    pub request: Request,
}

/// A request. Unknown keys and operations are refused.
#[derive(Debug, Deserialize, Serialize, PartialEq)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// First message of a connection.
    Hello {
        /// Layout version of the client.
        layout_version: Number,
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
        depth: Number,
        /// Events in the event ring; as many as slots when absent.
        #[serde(default)]
        events: Option<Number>,
        /// Whether the lane's orders are cancelled when it ends.
        #[serde(default)]
        cancel_on_disconnect: bool,
        /// First and last account that the lane uses; all when absent.
        #[serde(default)]
        accounts: Option<(Number, Number)>,
        /// Whether requests of a lane of orders can belong to spans.
        #[serde(default)]
        trace: bool,
        /// Whether what a lane of another kernel than orders is asked and answers is recorded.
        #[serde(default)]
        record: bool,
        /// What the lane's kernel is told; an object, for kernels other than that of orders.
        #[serde(default)]
        parameters: Value,
    },
    /// Come back to a lane after the sidecar was started anew.
    Attach {
        /// Lane number.
        lane: Number,
        /// The lane's token.
        token: String,
        /// Slots at which the client no longer looks.
        released: Number,
        /// Events that it has taken out of the ring.
        events_read: Number,
        /// Number of the last event that it has taken.
        event_number: Number,
    },
    /// Close a lane.
    Close {
        /// Lane number.
        lane: Number,
    },
    /// Read market data.
    #[serde(rename = "market_data")]
    MarketData {
        /// Symbol numbers; all when absent.
        #[serde(default)]
        symbols: Option<Vec<Number>>,
    },
    /// Ask for a snapshot, and how far the newest one is.
    Snapshot {},
    /// Administer.
    Admin(super::admin::AdminRequest),
    /// Ask about the state.
    Query(Query),
    /// Load, list or drop corpora.
    Corpus(CorpusRequest),
}

impl Request {
    /// Whether the sequencer spends time on the answer, of which each user has a share.
    #[must_use]
    pub const fn is_question(&self) -> bool {
        matches!(self, Self::Query(_) | Self::MarketData { .. })
    }
}

/// What is asked about corpora.
#[derive(Debug, Deserialize, Serialize, PartialEq)]
#[serde(tag = "what", rename_all = "lowercase", deny_unknown_fields)]
pub enum CorpusRequest {
    /// Begin to load one; `List` says how far it is.
    Load {
        /// Its name.
        name: String,
        /// Path of a .npy or .fvecs file below the corpus directory.
        path: String,
        /// "ip", "cosine" or "l2".
        metric: String,
        /// Path of a .npy file with an id a row; row numbers when absent.
        #[serde(default)]
        ids: Option<String>,
    },
    /// Name all.
    List {},
    /// Take one away.
    Drop {
        /// Its name.
        name: String,
    },
}

/// A question about the state.
#[derive(Debug, Deserialize, Serialize, PartialEq)]
#[serde(tag = "what", rename_all = "lowercase", deny_unknown_fields)]
pub enum Query {
    /// All instruments. Braces here and below: serde lets a variant without them have any keys.
    Instruments {},
    /// Open orders of an account.
    Orders {
        /// Account number.
        account: Number,
    },
    /// Positions of an account.
    Positions {
        /// Account number.
        account: Number,
    },
    /// Price levels of a book.
    Book {
        /// Symbol number.
        symbol: Number,
        /// Levels a side.
        levels: Number,
    },
    /// State hash and counters.
    State {},
    /// What administrators decide: instruments, halts and limits in force.
    Rules {},
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
pub fn parse(message: &[u8]) -> Result<Message, Refusal> {
    serde_json::from_slice(message).map_err(|error| Refusal::new("PROTOCOL", format!("not a message of this protocol: {error}")))
}

/// The request number of a message that may be of no use otherwise.
#[must_use]
pub fn id_of(message: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct OnlyId {
        id: Option<u64>,
    }
    serde_json::from_slice::<OnlyId>(message).ok()?.id
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

/// Schemas of a lane of another kernel; it has no events.
#[must_use]
pub fn kernel_lane_schemas(shape: &LaneShape) -> Value {
    let slot = |schema: &SlotSchema| {
        let field = |field: &SlotField| {
            json!({"name": field.name, "type": field.type_name, "offset": field.offset_bytes, "size": field.size_bytes,
                   "enum": field.enum_name, "doc": field.doc})
        };
        let fields: Vec<_> = schema.fields.iter().map(field).collect();
        json!({"name": schema.name, "size": schema.size_bytes, "hash": format!("{:016x}", schema.hash()), "doc": schema.doc, "fields": fields})
    };
    let enums: Vec<_> = shape.enums.iter().copied().chain([LaneStatus::SCHEMA]).map(enum_schema).collect();
    json!({"request": slot(&shape.request), "result": slot(&shape.result), "event": null, "enums": enums})
}

/// Schemas of the rows that queries answer with.
#[must_use]
pub fn row_schemas() -> Value {
    let schemas = [Instrument::SCHEMA, OpenOrder::SCHEMA, Position::SCHEMA, BookLevel::SCHEMA, AccountLimits::SCHEMA];
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
        const WORDS: [&str; 14] = [
            "op",
            "id",
            "hello",
            "open",
            "close",
            "query",
            "what",
            "book",
            "orders",
            "lane",
            "depth",
            "accounts",
            "layout_version",
            "name",
        ];
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
        use Number::{Other, Whole};
        let read = |message| parse(message).map(|message| (message.id, message.request));
        assert_eq!(
            read(br#"{"op":"query","what":"book","symbol":1,"levels":-5}"#),
            Ok((None, Request::Query(Query::Book { symbol: Whole(1), levels: Whole(-5) })))
        );
        assert_eq!(read(br#"{"op":"query","what":"state","id":7}"#), Ok((Some(7), Request::Query(Query::State {}))));
        let (id, open) = read(br#"{"id":8,"op":"open","kernel":"orders","depth":1e30,"accounts":[1,9]}"#).unwrap();
        assert_eq!(id, Some(8));
        assert!(matches!(open, Request::Open { depth: Other(1e30), accounts: Some((Whole(1), Whole(9))), events: None, .. }));
    }

    /// The program's own commands write what this file reads.
    #[test]
    fn requests_are_read_as_they_are_written() {
        use super::super::admin::AdminRequest;
        use Number::Whole;
        let config = crate::config::Config::parse(
            "[[orders.accounts]]\nfirst = 3\nlast = 9\nposition_max = 5\n[[orders.instruments]]\nname = \"X\"\ntick = 5\n",
        );
        let orders = config.unwrap().orders;
        let admin = [
            AdminRequest::Limits { limits: orders.accounts[0].clone() },
            AdminRequest::AddInstrument { instrument: orders.instruments[0].clone() },
            AdminRequest::CancelAll { symbol: Whole(1), account: Whole(u64::MAX.into()), lane: Whole(-1) },
            AdminRequest::Time { ends_day: true },
        ];
        let hello = Request::Hello { layout_version: Whole(2), build: "ab".into(), name: "me".into() };
        let all = admin.into_iter().map(Request::Admin).chain([hello, Request::Query(Query::Instruments {})]);
        for (id, request) in (1..).zip(all) {
            let written = serde_json::to_vec(&Message { id: Some(id), request }).unwrap();
            let Message { id: read_id, request: read } = parse(&written).unwrap();
            assert_eq!(read_id, Some(id));
            assert_eq!(serde_json::to_vec(&Message { id: Some(id), request: read }).unwrap(), written);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        let max = i128::from(u32::MAX);
        for (number, first, last, fits) in [
            (Number::Whole(1), 1, 2, true),
            (Number::Whole(0), 1, 2, false),
            (Number::Whole(-1), 0, u32::MAX, false),
            (Number::Whole(max), 0, u32::MAX, true),
            (Number::Whole(max + 1), 0, u32::MAX, false),
            (Number::Other(1.0), 0, 2, false),
        ] {
            match number.within("depth", first, last) {
                Ok(whole) => assert!(fits && number == Number::Whole(whole.into())),
                Err(refusal) => {
                    assert!(!fits && refusal.code == "BAD_VALUE");
                    assert!(refusal.words.contains(&format!("depth must be a whole number from {first} to {last}")));
                }
            }
        }
    }

    #[test]
    fn the_number_of_a_refused_message_is_found() {
        assert_eq!(id_of(br#"{"op":"fly","id":3}"#), Some(3));
        for message in [&b"{\"id\":-1}"[..], b"{\"id\":1,\"id\":1}", b"{}", b"[]", b"x"] {
            assert_eq!(id_of(message), None);
        }
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
            br#"{"op":"close","lane":"1"}"#,
            br#"{"op":"close","lane":1,"id":"x"}"#,
            br#"{"op":"close","lane":1,"id":1,"id":1}"#,
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
