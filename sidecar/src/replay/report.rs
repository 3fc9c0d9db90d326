//! `ringlane replay --report`: one page of charts that needs nothing but itself. The charts are drawn by the page.

use std::path::Path;

use serde_json::{Value, json};

use super::place::time_text;
use super::series::Series;
use super::walk::Walk;

/// The page; its data takes the place of the mark.
const PAGE: &str = include_str!("report.html");
const MARK: &str = "/*DATA*/null";

/// Writes the page.
pub fn write(path: &Path, walk: &Walk, series: &Series, summary: &Value) -> Result<(), String> {
    let mut data = series.json(walk.engine());
    let begin_ns = data["begin_ns"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
    data["begin"] = json!(time_text(begin_ns));
    data["summary"] = summary.clone();
    // In a script element only "<" could end the data.
    let text = data.to_string().replace('<', "\\u003c");
    assert!(PAGE.contains(MARK), "the page has a place for its data");
    std::fs::write(path, PAGE.replacen(MARK, &text, 1)).map_err(|error| format!("cannot write {}: {error}", path.display()))
}
