//! What is wrong with a configuration file, where, and what was probably meant.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something that types cannot say is wrong, with the path of the key that says it: `orders.accounts.2`.
#[derive(Debug)]
pub struct Wrong {
    path: String,
    words: String,
}

impl Wrong {
    /// A wrong value at a path; numbers in it count the elements of a list from 0.
    pub fn new(path: impl Into<String>, words: impl Into<String>) -> Self {
        Self { path: path.into(), words: words.into() }
    }

    /// `LINE: PATH: WORDS`; a key that the text leaves out has the line of what it would stand in.
    #[must_use]
    pub fn at_line(&self, text: &str) -> String {
        let span = DeTable::parse(text).ok().and_then(|root| find(&root, &self.path));
        format!("{}: {}: {}", line_of(text, span), self.path, self.words)
    }
}

/// Where the deepest part of the path that exists begins.
fn find(root: &Spanned<DeTable<'_>>, path: &str) -> Option<Range<usize>> {
    let mut steps = path.split('.');
    let (key, mut value) = root.get_ref().get_key_value(steps.next()?)?;
    let mut span = key.span();
    for step in steps {
        let next = match value.get_ref() {
            DeValue::Table(table) => table.get_key_value(step).map(|(key, value)| (key.span(), value)),
            DeValue::Array(values) => step.parse().ok().and_then(|index: usize| values.get(index)).map(|value| (value.span(), value)),
            _ => None,
        };
        let Some(found) = next else { break };
        (span, value) = found;
    }
    Some(span)
}

/// `LINE: WORDS` for what the parser refused, with the nearest valid key where a key is not known.
pub(super) fn of_syntax(text: &str, error: &toml::de::Error) -> String {
    let line = line_of(text, error.span());
    let message = error.message().trim_end();
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, valid)) if message.starts_with("unknown field") => {
            let meant = nearest(unknown, valid).map_or_else(|| ".".into(), |key| format!("; did you mean {key:?}?"));
            format!("{line}: there is no key {unknown:?} here{meant} The keys here are: {}", valid.join(", "))
        }
        _ => format!("{line}: {}", message.replace('\n', "; ")),
    }
}

/// Lines count from 1.
fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let offset = span.map_or(0, |span| span.start.min(text.len()));
    1 + text.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count()
}

/// Longest key that is compared with others, bytes: nobody misspells a longer one.
const KEY_BYTES_MAX: usize = 64;

/// The valid key that takes the fewest changes of a letter; none when all are too far.
fn nearest<'a>(unknown: &str, valid: &[&'a str]) -> Option<&'a str> {
    let far = 1 + unknown.len().min(KEY_BYTES_MAX) / 3;
    let near = valid.iter().map(|key| (distance(unknown, key), *key)).filter(|(changes, _)| *changes <= far);
    near.min().map(|(_, key)| key)
}

/// Levenshtein distance: letters to insert, remove or change.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > KEY_BYTES_MAX {
        return a.len();
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn unknown_keys_are_told_with_their_line_and_the_nearest_valid_one() {
        let words = |text| Config::parse(text).unwrap_err();
        let typo = words("socket = \"/a\"\n[journal]\n# x\nsegment_byte = 4096\n");
        assert!(typo.starts_with("4: there is no key \"segment_byte\" here; did you mean \"segment_bytes\"? The keys"), "{typo}");
        assert!(words("[jurnal]\n").starts_with("1: there is no key \"jurnal\" here; did you mean \"journal\"?"));
        let far = words("\n\nzzzzzz = 1\n");
        assert!(far.starts_with("3: there is no key \"zzzzzz\" here. The keys here are: socket"), "{far}");
        assert!(words("[[access.rules]]\nuids = [1]\n[[access.rules]]\nuid = [2]\n").starts_with("4: there is no key \"uid\""));
        assert!(words(&format!("{} = 1", "x".repeat(5000))).contains("The keys here are"));
    }

    #[test]
    fn wrong_values_are_told_with_their_line() {
        let words = |text| Config::parse(text).unwrap_err();
        assert!(words("[journal]\nsegment_bytes = 5\n").starts_with("2: journal.segment_bytes: it must be 1 MiB"));
        assert!(words("[journal]\n\nprefault_bytes = 4294967296\n").starts_with("3: journal.prefault_bytes: it must be at most"));
        assert!(words("[sequencer]\nspin_us = -1\n").starts_with("2: "));
        assert!(
            words("[[orders.accounts]]\nfirst = 1\nlast = 2\n[[orders.accounts]]\nfirst = 3\nlast = 2\n")
                .starts_with("4: orders.accounts.1")
        );
        assert!(words("[journal\n").starts_with("1: "));
        assert!(words("a = 1\na = 2\n").starts_with("2: "));
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        for (a, b, changes) in [("", "abc", 3), ("kitten", "sitting", 3), ("journal", "jurnal", 1), ("x", "x", 0)] {
            assert_eq!((distance(a, b), distance(b, a)), (changes, changes), "{a} {b}");
        }
    }
}
