//! The board's own description, as JSON in the board: where each field sits and what it says. Readers in other languages
//! take it from there.

use ringlane_layout::board::histogram::{BUCKETS, FIRST_BUCKET, HISTOGRAM_BYTES, MAX_NS, SUM_NS, lower_bound_ns};
use ringlane_layout::board::{Field, HISTOGRAMS_OFFSET, Kind, READ_ATTEMPTS_MAX, SCHEMA_BYTES_MAX, Stage, TABLES, Table, header};
use serde_json::{Value, json};

/// Name of a kind in the schema.
fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Id => "id",
        Kind::Time => "time",
        Kind::Text => "text",
    }
}

fn field(field: &Field) -> Value {
    json!([field.name(), field.word, field.words, kind_name(field.kind)])
}

fn table(table: &Table) -> Value {
    let fields: Vec<Value> = table.fields.iter().map(field).collect();
    json!({"name": table.name, "offset": table.offset, "row_bytes": table.row_bytes, "rows": table.rows, "fields": fields})
}

/// The schema. A field is `[name, first word, words, kind]`; offsets are bytes, bounds nanoseconds.
pub fn schema_text() -> String {
    let bounds: Vec<u64> = (0..BUCKETS).map(lower_bound_ns).collect();
    let text = json!({
        "read_attempts_max": READ_ATTEMPTS_MAX,
        "header": header::FIELDS.iter().map(field).collect::<Vec<_>>(),
        "tables": TABLES.iter().map(|rows| table(rows)).collect::<Vec<_>>(),
        "stages": {
            "offset": HISTOGRAMS_OFFSET, "row_bytes": HISTOGRAM_BYTES, "names": Stage::ALL.map(Stage::name), "sum_ns": SUM_NS,
            "max_ns": MAX_NS, "first_bucket": FIRST_BUCKET, "lower_bounds_ns": bounds,
        },
    })
    .to_string();
    assert!(text.len() <= SCHEMA_BYTES_MAX, "the board's schema has outgrown its room");
    text
}
