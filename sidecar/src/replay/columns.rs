//! Records as columns and values, read by their schemas alone: a new field or record appears by itself.

use std::fmt::{self, Write};

use ringlane_layout::orders::ENUMS;
use ringlane_layout::record::{EnumSchema, FieldSchema, RecordSchema};

use crate::journal::FrameKind;

/// What stands in a column.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// A whole number from 0, of so many bytes.
    Unsigned(usize),
    /// A whole number, of so many bytes.
    Signed(usize),
    /// A floating point number, of so many bytes.
    Float(usize),
    /// A number that has a name.
    Name(&'static EnumSchema),
    /// Text that is padded with zero bytes.
    Text,
    /// Bytes, shown in hex.
    Bytes,
}

/// A field of one of the parts that make a row.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Which part of the row it stands in.
    pub part: usize,
    /// Where in that part.
    pub field: &'static FieldSchema,
    /// What stands there.
    pub form: Form,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number from 0.
    Unsigned(u64),
    /// A whole number.
    Signed(i64),
    /// A floating point number.
    Float(f64),
    /// The name of a number.
    Name(&'static str),
    /// Other text.
    Text(String),
}

/// The visible columns of a row that is made of these parts. A name that an earlier part has is not shown again.
#[must_use]
pub fn columns(parts: &[&'static RecordSchema]) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    for (part, schema) in parts.iter().enumerate() {
        for field in schema.fields.iter().filter(|field| !field.name.starts_with("reserved")) {
            if columns.iter().all(|column| column.name != field.name) {
                columns.push(Column { name: field.name, part, field, form: form(field) });
            }
        }
    }
    columns
}

/// The column of one field.
#[must_use]
pub fn column(schema: &'static RecordSchema, name: &str) -> Option<Column> {
    let field = schema.fields.iter().find(|field| field.name == name)?;
    Some(Column { name: field.name, part: 0, field, form: form(field) })
}

fn form(field: &FieldSchema) -> Form {
    if let Some(names) = enum_schema(field.enum_name) {
        return Form::Name(names);
    }
    match field.type_name.as_bytes().get(1) {
        Some(b'u') => Form::Unsigned(field.size_bytes),
        Some(b'i') => Form::Signed(field.size_bytes),
        Some(b'f') => Form::Float(field.size_bytes),
        Some(b'S') => Form::Text,
        _ => Form::Bytes,
    }
}

/// The enum of this name; none when it is empty or unknown.
#[must_use]
pub fn enum_schema(name: &str) -> Option<&'static EnumSchema> {
    ENUMS.iter().copied().chain([FrameKind::SCHEMA]).find(|schema| schema.name == name)
}

impl Column {
    fn bytes<'a>(&self, parts: &[&'a [u8]]) -> &'a [u8] {
        &parts[self.part][self.field.offset_bytes..self.field.offset_bytes + self.field.size_bytes]
    }

    /// The number in the field, zero-extended; what does not fit eight bytes is cut.
    #[must_use]
    pub fn raw(&self, parts: &[&[u8]]) -> u64 {
        let mut word = [0; 8];
        let bytes = self.bytes(parts);
        let len = bytes.len().min(8);
        word[..len].copy_from_slice(&bytes[..len]);
        u64::from_le_bytes(word)
    }

    /// The value in a row.
    #[must_use]
    pub fn value(&self, parts: &[&[u8]]) -> Value {
        let raw = self.raw(parts);
        match self.form {
            Form::Unsigned(_) => Value::Unsigned(raw),
            Form::Signed(size) => {
                let shift = 64 - 8 * size as u32;
                Value::Signed((raw << shift).cast_signed() >> shift)
            }
            Form::Float(4) => Value::Float(f64::from(f32::from_bits(raw as u32))),
            Form::Float(_) => Value::Float(f64::from_bits(raw)),
            Form::Name(names) => name(names, raw),
            Form::Text => {
                let bytes = self.bytes(parts);
                let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                Value::Text(String::from_utf8_lossy(&bytes[..end]).into_owned())
            }
            Form::Bytes => Value::Text(self.bytes(parts).iter().fold(String::new(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })),
        }
    }
}

/// The name of a number, the names of its bits, or its digits where it has none. No bits and an unnamed 0 are "".
fn name(names: &'static EnumSchema, raw: u64) -> Value {
    if let Some(member) = names.members.iter().find(|member| member.value == raw) {
        return Value::Name(member.name);
    }
    if raw == 0 {
        return Value::Name("");
    }
    let known = names.members.iter().fold(0, |bits, member| bits | member.value);
    if names.is_flags && raw & !known == 0 {
        let set: Vec<&str> = names.members.iter().filter(|member| raw & member.value != 0).map(|member| member.name).collect();
        return Value::Text(set.join("|"));
    }
    Value::Text(raw.to_string())
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Signed(number) => write!(f, "{number}"),
            Self::Float(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Unsigned(number) => number.into(),
            Value::Signed(number) => number.into(),
            Value::Float(number) => number.into(),
            Value::Name(name) => name.into(),
            Value::Text(text) => text.into(),
        }
    }
}

/// A record's visible fields as JSON.
#[must_use]
pub fn record_json(schema: &'static RecordSchema, bytes: &[u8]) -> serde_json::Map<String, serde_json::Value> {
    columns(&[schema]).iter().map(|column| (column.name.to_owned(), column.value(&[bytes]).into())).collect()
}

/// A record's visible fields that are not zero, as `name=value` with spaces between.
#[must_use]
pub fn record_text(schema: &'static RecordSchema, bytes: &[u8]) -> String {
    let shown = |column: &Column| column.bytes(&[bytes]).iter().any(|byte| *byte != 0);
    let fields = columns(&[schema]);
    let fields: Vec<String> =
        fields.iter().filter(|column| shown(column)).map(|column| format!("{}={}", column.name, column.value(&[bytes]))).collect();
    fields.join(" ")
}

/// The first visible field in which two records differ, and both values.
#[must_use]
pub fn difference(schema: &'static RecordSchema, left: &[u8], right: &[u8], ignored: &[&str]) -> Option<(&'static str, Value, Value)> {
    let differs = |field: &&FieldSchema| {
        let range = field.offset_bytes..field.offset_bytes + field.size_bytes;
        left[range.clone()] != right[range] && !ignored.contains(&field.name)
    };
    let field = schema.fields.iter().find(differs)?;
    let column = Column { name: field.name, part: 0, field, form: form(field) };
    Some((field.name, column.value(&[left]), column.value(&[right])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringlane_layout::orders::{Instrument, OrderRequest};
    use ringlane_layout::record::Record;

    #[test]
    fn records_are_told_by_their_schema() {
        let order =
            OrderRequest { op: 1, side: 2, symbol: 3, flags: 1, price: -5, quantity: 7, time_in_force: 99, ..OrderRequest::default() };
        let text = record_text(OrderRequest::SCHEMA, bytemuck::bytes_of(&order));
        assert_eq!(text, "op=NEW side=SELL time_in_force=99 symbol=3 flags=POST_ONLY price=-5 quantity=7");
        let other = OrderRequest { quantity: 8, ..order };
        let found = difference(OrderRequest::SCHEMA, bytemuck::bytes_of(&order), bytemuck::bytes_of(&other), &[]);
        assert_eq!(found, Some(("quantity", Value::Signed(7), Value::Signed(8))));
        assert_eq!(difference(OrderRequest::SCHEMA, bytemuck::bytes_of(&order), bytemuck::bytes_of(&other), &["quantity"]), None);
        let mut instrument = Instrument::default();
        instrument.name[..4].copy_from_slice(b"RING");
        assert_eq!(record_json(Instrument::SCHEMA, bytemuck::bytes_of(&instrument))["name"], "RING");
    }
}
