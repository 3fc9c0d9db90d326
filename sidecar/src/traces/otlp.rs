//! The part of OTLP that is sent: one batch becomes four spans, children of the worker's span. Field numbers are those of
//! `opentelemetry.proto.trace.v1` and its neighbours.

use prost::{Message, Oneof};

use super::BatchTrace;

/// Spans that are made of one record.
pub(super) const SPANS_A_RECORD: usize = 4;
/// `SPAN_KIND_INTERNAL`.
const INTERNAL: i32 = 1;
/// Stages, between each two times of a record.
const STAGES: [&str; SPANS_A_RECORD] = ["ringlane.queue_wait", "ringlane.journal", "ringlane.kernel", "ringlane.result"];

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTraceServiceRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportTraceServiceResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_spans: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    pub(super) scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub(super) attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    pub(super) scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    pub(super) spans: Vec<Span>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Scope {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Span {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub(super) parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    pub(super) name: String,
    #[prost(int32, tag = "6")]
    pub(super) kind: i32,
    #[prost(fixed64, tag = "7")]
    pub(super) start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    pub(super) end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    pub(super) attributes: Vec<KeyValue>,
    #[prost(fixed32, tag = "16")]
    pub(super) flags: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(message, optional, tag = "2")]
    pub(super) value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    pub(super) value: Option<Value>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Whole(i64),
}

/// What is sent for these records; `span_id` gives numbers that are not 0, each another.
pub(super) fn request(records: &[BatchTrace], mut span_id: impl FnMut() -> u64) -> ExportTraceServiceRequest {
    let spans = records.iter().flat_map(|record| STAGES.iter().enumerate().map(move |stage| (record, stage)));
    let spans = spans.map(|(record, (stage, name))| Span {
        trace_id: record.context.trace_id.to_vec(),
        span_id: span_id().to_be_bytes().to_vec(),
        parent_span_id: record.context.span_id.to_vec(),
        name: (*name).into(),
        kind: INTERNAL,
        start_time_unix_nano: record.times_ns[stage],
        end_time_unix_nano: record.times_ns[stage + 1],
        attributes: vec![
            whole("ringlane.lane", record.lane.into()),
            text("ringlane.kernel", "orders"),
            whole("ringlane.sequence", record.sequence),
            whole("ringlane.requests", record.requests.into()),
            whole("ringlane.batch_size", record.batch.into()),
        ],
        flags: record.context.flags.into(),
    });
    let scope = Scope { name: "ringlane".into(), version: env!("CARGO_PKG_VERSION").into() };
    let attributes = vec![text("service.name", "ringlane"), whole("process.pid", std::process::id().into())];
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: spans.collect() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { resource: Some(Resource { attributes }), scope_spans }] }
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::Text(value.into())) }) }
}

fn whole(key: &str, value: u64) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::Whole(value as i64)) }) }
}
