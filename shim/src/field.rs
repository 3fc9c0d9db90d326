//! Fields of a record as numbers at offsets: how `call` writes its arguments and reads its answer.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use ringlane_layout::limits::RECORD_BYTES;

/// A record with room behind it, so that any field can be read and written as eight bytes.
pub type WideRecord = [u8; RECORD_BYTES + 8];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Unsigned,
    Signed,
    Float,
}

/// One field that holds one number.
pub struct Field {
    pub name: String,
    pub kind: Kind,
    offset: usize,
    size: usize,
    /// Smallest and largest value (of the integer kinds).
    min: i64,
    max: u64,
}

/// A field as Python gives it: name, offset, size, and the kind letter of its numpy type.
pub type FieldArgument = (String, usize, usize, char);

impl Field {
    pub fn new((name, offset, size, letter): FieldArgument) -> PyResult<Self> {
        let kind = match (letter, size) {
            ('u', 1 | 2 | 4 | 8) => Kind::Unsigned,
            ('i', 1 | 2 | 4 | 8) => Kind::Signed,
            ('f', 4 | 8) => Kind::Float,
            _ => return Err(PyValueError::new_err(format!("field {name}: no number of {size} bytes has kind {letter}"))),
        };
        if offset > RECORD_BYTES || offset + size > RECORD_BYTES {
            return Err(PyValueError::new_err(format!("field {name} lies outside of the record")));
        }
        let bits = 8 * size as u32;
        let (min, max) = if kind == Kind::Signed { (i64::MIN >> (64 - bits), (1 << (bits - 1)) - 1) } else { (0, u64::MAX >> (64 - bits)) };
        Ok(Self { name, kind, offset, size, min, max })
    }

    /// Writes the low bytes of `raw`. Bytes behind the field become zero: fields are written in ascending order.
    #[inline]
    pub fn put(&self, record: &mut WideRecord, raw: u64) {
        let masked = raw & (u64::MAX >> (64 - 8 * self.size));
        record[self.offset..self.offset + 8].copy_from_slice(&masked.to_le_bytes());
    }

    /// The field's bytes, zero-extended, or sign-extended when it is signed.
    #[inline]
    pub fn get(&self, record: &WideRecord) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&record[self.offset..self.offset + 8]);
        let shift = 64 - 8 * self.size as u32;
        let raised = u64::from_le_bytes(word) << shift;
        if self.kind == Kind::Signed { (raised.cast_signed() >> shift).cast_unsigned() } else { raised >> shift }
    }

    #[inline]
    pub fn holds(&self, value: i64) -> bool {
        value >= self.min && (value < 0 || value.cast_unsigned() <= self.max)
    }

    pub const fn holds_unsigned(&self, value: u64) -> bool {
        value <= self.max
    }

    pub fn float_bits(&self, value: f64) -> u64 {
        if self.size == 4 { u64::from((value as f32).to_bits()) } else { value.to_bits() }
    }

    pub fn float(&self, raw: u64) -> f64 {
        if self.size == 4 { f64::from(f32::from_bits(raw as u32)) } else { f64::from_bits(raw) }
    }

    pub fn range_error(&self) -> PyErr {
        PyValueError::new_err(format!("{} must be {} to {}", self.name, self.min, self.max))
    }
}

/// For each 8-byte word of a record, the bits that belong to some field; all others must be zero on the wire.
pub fn used_bits(spans: &[(usize, usize)]) -> [u64; RECORD_BYTES / 8] {
    let mut used = [0_u8; RECORD_BYTES];
    for &(offset, size) in spans {
        let end = (offset + size).min(RECORD_BYTES);
        used[offset.min(end)..end].fill(0xff);
    }
    let words = used.as_chunks::<8>().0;
    std::array::from_fn(|index| u64::from_ne_bytes(words[index]))
}
