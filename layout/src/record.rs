//! How a record describes itself: the field table that a sidecar sends when a lane opens.
//! What a field *means* to a kernel never enters here.

/// The bytes of one 64-byte record of any kind, aligned so that they can be looked at as that record.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct RecordBytes(pub [u8; crate::limits::RECORD_BYTES]);

/// A type that may stand in a record. Names follow numpy's array-interface type strings.
pub trait Field: bytemuck::Pod {
    /// The array-interface type string, for example `<u4`.
    const TYPE: &'static str;
}

macro_rules! field_types {
    ($($type:ty => $name:literal),* $(,)?) => { $(impl Field for $type { const TYPE: &'static str = $name; })* };
}
field_types! {
    u8 => "|u1", u16 => "<u2", u32 => "<u4", u64 => "<u8", i8 => "|i1", i16 => "<i2", i32 => "<i4", i64 => "<i8", f32 => "<f4", f64 => "<f8",
    [u8; 2] => "|V2", [u8; 3] => "|V3", [u8; 4] => "|V4", [u8; 6] => "|V6", [u8; 7] => "|V7", [u8; 8] => "|V8", [u8; 12] => "|V12",
    [u8; 16] => "|V16", [u8; 20] => "|V20", [u8; 24] => "|S24", [u8; 28] => "|V28", [u8; 32] => "|V32",
}

/// One field of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldSchema {
    /// Field name; names that begin with `reserved` must hold zero bytes.
    pub name: &'static str,
    /// Array-interface type string.
    pub type_name: &'static str,
    /// Offset from the start of the record, bytes.
    pub offset_bytes: usize,
    /// Size, bytes.
    pub size_bytes: usize,
    /// Name of the enum whose numbers stand in this field, or "".
    pub enum_name: &'static str,
    /// What it holds, with unit and range.
    pub doc: &'static str,
}

/// A whole record: its name, size and fields in the order of their offsets.
#[derive(Debug, Clone, Copy)]
pub struct RecordSchema {
    /// Rust name of the record.
    pub name: &'static str,
    /// Size, bytes.
    pub size_bytes: usize,
    /// Fields, ascending by offset, without gaps.
    pub fields: &'static [FieldSchema],
    /// What the record is for.
    pub doc: &'static str,
}

/// One named number of an enum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnumMember {
    /// Name in capitals, as users see it.
    pub name: &'static str,
    /// The number in the record; never reused for another meaning.
    pub value: u64,
    /// What it means, one sentence a person can act on.
    pub doc: &'static str,
}

/// An enum of a record field.
#[derive(Debug, Clone, Copy)]
pub struct EnumSchema {
    /// Name as users see it, for example `Side`.
    pub name: &'static str,
    /// Members, ascending by value.
    pub members: &'static [EnumMember],
    /// What the enum is for.
    pub doc: &'static str,
    /// Whether members are bits that may be combined.
    pub is_flags: bool,
}

/// One member of an enum as plain data: name, value, doc.
pub type PlainMember = (&'static str, u64, &'static str);
/// An enum as plain data: name, doc, whether its members are flags, members.
pub type PlainEnum = (&'static str, &'static str, bool, Vec<PlainMember>);
/// One field of a record as plain data: name, type, offset, size, enum, doc.
pub type PlainField = (&'static str, &'static str, usize, usize, &'static str, &'static str);
/// A record as plain data: name, doc, size, hash in hex, fields.
pub type PlainRecord = (&'static str, &'static str, usize, String, Vec<PlainField>);

impl EnumSchema {
    /// The same for those who have no Rust types.
    #[must_use]
    pub fn plain(&self) -> PlainEnum {
        let members = self.members.iter().map(|member| (member.name, member.value, member.doc));
        (self.name, self.doc, self.is_flags, members.collect())
    }
}

/// A record with a compile-time proof of its layout.
pub trait Record: bytemuck::Pod {
    /// The record's field table.
    const SCHEMA: &'static RecordSchema;
    /// A number that changes whenever a name, type, offset or size changes.
    const SCHEMA_HASH: u64 = Self::SCHEMA.hash();
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

pub(crate) const fn fnv1a(mut hash: u64, bytes: &[u8]) -> u64 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(FNV_PRIME);
        i += 1;
    }
    hash
}

/// The hash of a schema before its fields.
pub(crate) const fn hash_begin(name: &str, size_bytes: usize) -> u64 {
    fnv1a(fnv1a(FNV_OFFSET, name.as_bytes()), &(size_bytes as u64).to_le_bytes())
}

impl RecordSchema {
    /// The same for those who have no Rust types.
    #[must_use]
    pub fn plain(&self) -> PlainRecord {
        let fields = self.fields.iter().map(|f| (f.name, f.type_name, f.offset_bytes, f.size_bytes, f.enum_name, f.doc));
        (self.name, self.doc, self.size_bytes, format!("{:016x}", self.hash()), fields.collect())
    }

    /// FNV-1a 64 (Fowler, Noll, Vo) over name, size and each field's name, type and offset. Docs do not count.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        let mut hash = hash_begin(self.name, self.size_bytes);
        let mut i = 0;
        while i < self.fields.len() {
            let field = &self.fields[i];
            hash = fnv1a(hash, field.name.as_bytes());
            hash = fnv1a(hash, field.type_name.as_bytes());
            hash = fnv1a(hash, &(field.offset_bytes as u64).to_le_bytes());
            i += 1;
        }
        hash
    }
}

/// Defines a `#[repr(C)]` record: proves at compile time that its fields fill exactly the stated size without padding,
/// and derives the schema from the same lines. A record with floating-point fields begins with `#![floats]` and is not `Eq`.
#[macro_export]
macro_rules! record {
    ( #![floats] $($record:tt)+ ) => { $crate::record! { @derive() $($record)+ } };
    ( $(#[doc = $doc:literal])+ pub struct $($record:tt)+ ) => { $crate::record! { @derive(Eq) $(#[doc = $doc])+ pub struct $($record)+ } };
    (
        @derive($($eq:ident)?)
        $(#[doc = $doc:literal])+
        pub struct $name:ident: $size:literal {
            $( $(#[doc = $fdoc:literal])+ $field:ident: $type:ty $(as $enum:ident)?, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[repr(C)]
        #[derive(Debug, Clone, Copy, Default, PartialEq, $($eq,)? bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $( $(#[doc = $fdoc])+ pub $field: $type, )+ }

        const _: () = {
            assert!(size_of::<$name>() == $size);
            let sum = 0 $(+ size_of::<$type>())+;
            assert!(sum == $size, "a record has no padding");
            // Offsets in the order of declaration, each behind the one before.
            let mut end = 0;
            $( assert!(std::mem::offset_of!($name, $field) == end); end += size_of::<$type>(); )+
            assert!(end == $size);
        };

        impl $crate::record::Record for $name {
            const SCHEMA: &'static $crate::record::RecordSchema = &$crate::record::RecordSchema {
                name: stringify!($name),
                size_bytes: $size,
                fields: &[ $( $crate::record::FieldSchema {
                    name: stringify!($field),
                    type_name: <$type as $crate::record::Field>::TYPE,
                    offset_bytes: std::mem::offset_of!($name, $field),
                    size_bytes: size_of::<$type>(),
                    enum_name: concat!($(stringify!($enum))?),
                    doc: concat!($($fdoc),+).trim_ascii(),
                }, )+ ],
                doc: concat!($($doc),+).trim_ascii(),
            };
        }
    };
}

/// Defines an enum whose explicit numbers stand in record fields, with a checked conversion and its schema.
#[macro_export]
macro_rules! codes {
    (
        $(#[doc = $doc:literal])+
        pub enum $name:ident: $repr:ty {
            $( $(#[doc = $mdoc:literal])+ $member:ident ($shown:literal) = $value:literal, )+
        }
    ) => {
        $(#[doc = $doc])+
        #[repr($repr)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[doc = $mdoc])+ $member = $value, )+ }

        impl $name {
            /// The members with their documentation, as sent to clients.
            pub const SCHEMA: &'static $crate::record::EnumSchema = &$crate::record::EnumSchema {
                name: stringify!($name),
                members: &[ $( $crate::record::EnumMember { name: $shown, value: $value, doc: concat!($($mdoc),+).trim_ascii() }, )+ ],
                doc: concat!($($doc),+).trim_ascii(),
                is_flags: false,
            };
        }

        impl TryFrom<$repr> for $name {
            /// The number that has no meaning here.
            type Error = $repr;
            #[inline]
            fn try_from(value: $repr) -> Result<Self, $repr> {
                match value { $( $value => Ok(Self::$member), )+ other => Err(other) }
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::record! {
        /// A record for this test.
        pub struct Sample: 16 {
            /// Eight bytes.
            a: u64,
            /// Four bytes.
            b: u32 as Side,
            /// Four more.
            c: [u8; 4],
        }
    }

    #[test]
    fn schema_names_types_and_offsets() {
        let schema = Sample::SCHEMA;
        assert_eq!(schema.fields.iter().map(|f| f.offset_bytes).collect::<Vec<_>>(), [0, 8, 12]);
        assert_eq!(schema.fields[1].enum_name, "Side");
        assert_eq!(schema.fields[1].type_name, "<u4");
        assert_eq!(schema.fields[0].doc, "Eight bytes.");
    }

    #[test]
    fn hash_changes_with_a_name_and_not_with_a_doc() {
        let mut fields = Sample::SCHEMA.fields.to_vec();
        fields[0].doc = "other words";
        let same = RecordSchema { fields: Box::leak(fields.clone().into_boxed_slice()), ..*Sample::SCHEMA };
        assert_eq!(same.hash(), Sample::SCHEMA_HASH);
        fields[0].name = "z";
        let other = RecordSchema { fields: Box::leak(fields.into_boxed_slice()), ..*Sample::SCHEMA };
        assert_ne!(other.hash(), Sample::SCHEMA_HASH);
    }
}
