//! The layout crate's description of itself, handed to Python as plain data: enums and record schemas, whatever they are.

use pyo3::prelude::*;
use ringlane_layout::record::{EnumSchema, RecordSchema};
use ringlane_layout::region::LaneStatus;
use ringlane_layout::{ENUMS, RECORDS};

type Member = (&'static str, u64, &'static str);
type Enum = (&'static str, &'static str, bool, Vec<Member>);
type Field = (&'static str, &'static str, usize, usize, &'static str, &'static str);
type Schema = (&'static str, &'static str, usize, String, Vec<Field>);

fn enumeration(schema: &'static EnumSchema) -> Enum {
    let members = schema.members.iter().map(|member| (member.name, member.value, member.doc)).collect();
    (schema.name, schema.doc, schema.is_flags, members)
}

fn record(schema: &'static RecordSchema) -> Schema {
    let fields = schema.fields.iter();
    let fields = fields.map(|f| (f.name, f.type_name, f.offset_bytes, f.size_bytes, f.enum_name, f.doc)).collect();
    (schema.name, schema.doc, schema.size_bytes, format!("{:016x}", schema.hash()), fields)
}

/// Adds `ENUMS` and `RECORDS`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let enums: Vec<Enum> = ENUMS.iter().copied().chain([LaneStatus::SCHEMA]).map(enumeration).collect();
    module.add("ENUMS", enums)?;
    module.add("RECORDS", RECORDS.iter().copied().map(record).collect::<Vec<Schema>>())
}
