//! Which records are void: what the headers of segments say of records that stand before them.

use std::path::PathBuf;
use std::str::FromStr;

use super::{SegmentHeader, read_header};

/// Sequence numbers of records that are void, first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VoidRange {
    /// The first of them.
    pub first: u64,
    /// The last of them.
    pub last: u64,
}

impl VoidRange {
    /// Whether the record of this sequence number is one of them.
    #[must_use]
    pub fn holds(&self, sequence: u64) -> bool {
        (self.first..=self.last).contains(&sequence)
    }

    /// What a header says.
    fn of(header: &SegmentHeader) -> Option<Self> {
        let (first, last) = (header.void_first, header.void_last);
        (first != 0 && first <= last && last < header.first_sequence).then_some(Self { first, last })
    }
}

impl FromStr for VoidRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first != 0 && first <= last => Ok(Self { first, last }),
            _ => Err(format!("{text:?} names no records; write a sequence number, or FIRST-LAST")),
        }
    }
}

impl std::fmt::Display for VoidRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// What the headers of these segments say, ascending. One that cannot be read says nothing here; who reads it complains.
pub fn voids<'a>(segments: impl IntoIterator<Item = &'a (u64, PathBuf)>) -> Vec<VoidRange> {
    let mut found: Vec<VoidRange> = segments.into_iter().filter_map(|(_, path)| VoidRange::of(&read_header(path).ok()?)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_they_are_printed() {
        for (text, first, last) in [("7", 7, 7), ("7-12", 7, 12)] {
            let range: VoidRange = text.parse().unwrap();
            assert_eq!((range.first, range.last, range.to_string()), (first, last, text.to_owned()));
        }
        for wrong in ["", "0", "7-", "-7", "9-7", "x", "1 2"] {
            assert!(wrong.parse::<VoidRange>().is_err(), "{wrong}");
        }
    }
}
