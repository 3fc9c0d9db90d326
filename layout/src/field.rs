//! Fields of a record as numbers at offsets: how a client that knows a record only by its schema writes and reads one.
//! What a field means never enters here.

use crate::limits::RECORD_BYTES;

/// A record with room behind it, so that any field can be read and written as eight bytes.
pub type WideRecord = [u8; RECORD_BYTES + 8];

/// What kind of number stands in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number from 0.
    Unsigned,
    /// A whole number in two's complement.
    Signed,
    /// An IEEE 754 number of 4 or 8 bytes.
    Float,
}

/// One field that holds one number.
#[derive(Debug, Clone)]
pub struct NumberField {
    /// Its name in the schema.
    pub name: String,
    /// What stands in it.
    pub kind: Kind,
    offset: usize,
    size: usize,
    /// Smallest and largest value (of the integer kinds).
    min: i64,
    max: u64,
}

/// A field in plain words: name, offset and size in bytes, and the kind letter of its numpy type.
pub type FieldArgument = (String, usize, usize, char);

/// What to say to somebody who gives `count` arguments, which are too many.
#[cold]
#[must_use]
pub fn too_many(fields: &[NumberField], count: usize) -> String {
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    format!("call() takes at most {} arguments ({}), not {count}", names.len(), names.join(", "))
}

/// Fields from their descriptions. An error names the field and what is wrong with it.
pub fn number_fields(arguments: Vec<FieldArgument>) -> Result<Box<[NumberField]>, String> {
    arguments.into_iter().map(NumberField::new).collect()
}

impl NumberField {
    /// A field inside of a record. An error names the field and what is wrong with it.
    pub fn new((name, offset, size, letter): FieldArgument) -> Result<Self, String> {
        let kind = match (letter, size) {
            ('u', 1 | 2 | 4 | 8) => Kind::Unsigned,
            ('i', 1 | 2 | 4 | 8) => Kind::Signed,
            ('f', 4 | 8) => Kind::Float,
            _ => return Err(format!("field {name}: no number of {size} bytes has kind {letter}")),
        };
        if offset > RECORD_BYTES || offset + size > RECORD_BYTES {
            return Err(format!("field {name} lies outside of the record"));
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
    #[must_use]
    pub fn get(&self, record: &WideRecord) -> u64 {
        let mut word = [0; 8];
        word.copy_from_slice(&record[self.offset..self.offset + 8]);
        let shift = 64 - 8 * self.size as u32;
        let raised = u64::from_le_bytes(word) << shift;
        if self.kind == Kind::Signed { (raised.cast_signed() >> shift).cast_unsigned() } else { raised >> shift }
    }

    /// Whether this integer field can hold `value`.
    #[inline]
    #[must_use]
    pub fn holds(&self, value: i64) -> bool {
        value >= self.min && (value < 0 || value.cast_unsigned() <= self.max)
    }

    /// Whether this integer field can hold `value`.
    #[must_use]
    pub const fn holds_unsigned(&self, value: u64) -> bool {
        value <= self.max
    }

    /// What [`NumberField::put`] wants for a number in a field of kind `Float`.
    #[inline]
    #[must_use]
    pub fn float_bits(&self, value: f64) -> u64 {
        if self.size == 4 { u64::from((value as f32).to_bits()) } else { value.to_bits() }
    }

    /// The number whose bits [`NumberField::get`] gave.
    #[inline]
    #[must_use]
    pub fn float(&self, raw: u64) -> f64 {
        if self.size == 4 { f64::from(f32::from_bits(raw as u32)) } else { f64::from_bits(raw) }
    }

    /// What to say about an integer that this field cannot hold.
    #[must_use]
    pub fn range_words(&self) -> String {
        format!("{} must be {} to {}", self.name, self.min, self.max)
    }
}

/// For each 8-byte word of a record of `slot_bytes`, the bits that belong to some field; all others must be zero on the wire.
#[must_use]
pub fn used_bits(spans: &[(usize, usize)], slot_bytes: u64) -> Box<[u64]> {
    let mut used = vec![0_u8; slot_bytes as usize];
    for &(offset, size) in spans {
        let end = offset.saturating_add(size).min(used.len());
        used[offset.min(end)..end].fill(0xff);
    }
    used.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Numbers that a field holds come back; what it does not hold is refused; neighbours before it stay.
        #[test]
        fn integers_come_back_and_fields_before_stay(value: i64, power in 0u32..4, offset in 1usize..64, signed: bool) {
            let size = 1_usize << power;
            prop_assume!(offset + size <= RECORD_BYTES);
            let field = NumberField::new(("f".into(), offset, size, if signed { 'i' } else { 'u' })).unwrap();
            let bits = 8 * size as u32;
            let (low, high) = if signed { (-(1_i128 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1_i128 << bits) - 1) };
            prop_assert_eq!(field.holds(value), (low..=high).contains(&i128::from(value)));
            prop_assert_eq!(field.holds_unsigned(value.cast_unsigned()), i128::from(value.cast_unsigned()) <= high);
            prop_assert_eq!(field.range_words(), format!("f must be {low} to {high}"));
            let mut record = [0xa5; RECORD_BYTES + 8];
            field.put(&mut record, value.cast_unsigned());
            prop_assert!(record[..offset].iter().all(|&byte| byte == 0xa5));
            if field.holds(value) { prop_assert_eq!(field.get(&record).cast_signed(), value); }
        }

        #[test]
        fn floats_come_back(value: f64, narrow: f32) {
            let fields = [("d".to_owned(), 8, 8, 'f'), ("n".to_owned(), 16, 4, 'f')].map(|field| NumberField::new(field).unwrap());
            let mut record = [0; RECORD_BYTES + 8];
            for (field, number) in fields.iter().zip([value, f64::from(narrow)]) { field.put(&mut record, field.float_bits(number)); }
            prop_assert_eq!(fields[0].float(fields[0].get(&record)).to_bits(), value.to_bits());
            prop_assert_eq!(fields[1].float(fields[1].get(&record)) as f32, narrow);
        }

        #[test]
        fn used_bits_are_those_of_the_spans(spans in prop::collection::vec((0usize..240, 0usize..90), 0..6), records in 1u64..4) {
            let used = used_bits(&spans, records * RECORD_BYTES as u64);
            prop_assert_eq!(used.len() as u64, records * 8);
            for byte in 0..8 * used.len() {
                let inside = spans.iter().any(|&(offset, size)| (offset..offset + size).contains(&byte));
                prop_assert_eq!(used[byte / 8].to_ne_bytes()[byte % 8], if inside { 0xff } else { 0 });
            }
        }
    }

    #[test]
    fn fields_that_no_record_has_are_refused_in_words() {
        for (offset, size, letter) in [(0, 3, 'u'), (0, 2, 'f'), (0, 8, 'V'), (61, 4, 'i'), (usize::MAX, 1, 'u')] {
            assert!(NumberField::new(("odd".into(), offset, size, letter)).unwrap_err().contains("field odd"));
        }
    }
}
