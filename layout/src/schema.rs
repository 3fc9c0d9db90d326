//! Schemas of records whose size is known only when a lane opens, such as vectors of a dimension; and those of Rust's own
//! records in the same form. What a field means never enters here.

use crate::record::{FieldSchema, RecordSchema, fnv1a, hash_begin};

/// One field of a slot's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotField {
    /// Field name; names that begin with `reserved` must hold zero bytes.
    pub name: String,
    /// What numpy calls its type: `<u4`, `|S24`, or `(384,)<f4` for an array.
    pub type_name: String,
    /// Offset from the start of the record, bytes.
    pub offset_bytes: usize,
    /// Size, bytes.
    pub size_bytes: usize,
    /// Name of the enum whose numbers stand in this field, or "".
    pub enum_name: String,
    /// What it holds, with unit and range.
    pub doc: String,
}

/// The record that stands in each slot of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSchema {
    /// Name of the record.
    pub name: String,
    /// Size of the slot, bytes.
    pub size_bytes: usize,
    /// Fields, ascending by offset.
    pub fields: Vec<SlotField>,
    /// What the record is for.
    pub doc: String,
}

impl SlotSchema {
    /// A record without fields; they follow by [`SlotSchema::with`].
    #[must_use]
    pub fn new(name: &str, doc: &str) -> Self {
        Self { name: name.into(), size_bytes: 0, fields: Vec::new(), doc: doc.into() }
    }

    /// The same with a field more, behind the others; `size_bytes` must be a multiple of what its numbers are aligned to.
    #[must_use]
    pub fn with(mut self, name: &str, type_name: &str, size_bytes: usize, doc: &str) -> Self {
        let field = SlotField {
            name: name.into(),
            type_name: type_name.into(),
            offset_bytes: self.size_bytes,
            size_bytes,
            enum_name: String::new(),
            doc: doc.into(),
        };
        self.fields.push(field);
        self.size_bytes += size_bytes;
        self
    }

    /// The same in a slot of whole 64 bytes; what is behind the last field is padding that nobody reads.
    #[must_use]
    pub fn padded(mut self) -> Self {
        self.size_bytes = self.size_bytes.next_multiple_of(crate::limits::RECORD_BYTES);
        self
    }

    /// FNV-1a 64 over name, size and each field's name, type and offset, as [`RecordSchema::hash`].
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.fields.iter().fold(hash_begin(&self.name, self.size_bytes), |hash, field| {
            let named = fnv1a(fnv1a(hash, field.name.as_bytes()), field.type_name.as_bytes());
            fnv1a(named, &(field.offset_bytes as u64).to_le_bytes())
        })
    }
}

impl From<&FieldSchema> for SlotField {
    fn from(field: &FieldSchema) -> Self {
        Self {
            name: field.name.into(),
            type_name: field.type_name.into(),
            offset_bytes: field.offset_bytes,
            size_bytes: field.size_bytes,
            enum_name: field.enum_name.into(),
            doc: field.doc.into(),
        }
    }
}

impl From<&RecordSchema> for SlotSchema {
    fn from(schema: &RecordSchema) -> Self {
        let fields = schema.fields.iter().map(SlotField::from).collect();
        Self { name: schema.name.into(), size_bytes: schema.size_bytes, fields, doc: schema.doc.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orders::OrderRequest;
    use crate::record::Record;

    #[test]
    fn both_forms_of_a_schema_have_one_hash() {
        let schema = SlotSchema::from(OrderRequest::SCHEMA);
        assert_eq!(schema.hash(), OrderRequest::SCHEMA_HASH);
        assert_ne!(SlotSchema { name: "Other".into(), ..schema }.hash(), OrderRequest::SCHEMA_HASH);
    }

    #[test]
    fn fields_stand_one_behind_the_other_in_whole_slots() {
        let schema = SlotSchema::new("Row", "A row.").with("vector", "(3,)<f4", 12, "Numbers.").with("status", "<u4", 4, "Bad.").padded();
        assert_eq!(schema.fields.iter().map(|field| field.offset_bytes).collect::<Vec<_>>(), [0, 12]);
        assert_eq!(schema.size_bytes, 64);
    }
}
