//! `ringlane explain`: what the numbers in results and events mean. The table in `layout/CODES.md` is what it prints with
//! `--markdown`; a test sees to it that the two are one.

use std::fmt::Write;
use std::process::ExitCode;

use clap::Args;
use ringlane_layout::orders::{CancelReason, RejectCode};
use ringlane_layout::record::EnumSchema;
use serde_json::{Value, json};

/// What is to be explained.
#[derive(Args)]
pub struct ExplainArguments {
    /// Reject codes by number or name [default: all codes, and why orders are cancelled].
    codes: Vec<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// As the page `layout/CODES.md`.
    #[arg(long, conflicts_with_all = ["json", "codes"])]
    markdown: bool,
}

/// The stages of the order kernel, in the order in which a request goes through them, each with its band of codes.
pub const STAGES: [(u16, &str, &str); 5] = [
    (100, "structure", "Looks at the record itself"),
    (200, "validate", "Looks at instruments, accounts and the order that is named"),
    (300, "risk", "Looks at the limits of the account, and of the account in the symbol"),
    (400, "business rules", "Looks at the book, the position and the state of the symbol"),
    (500, "operation", "Decided by people, when the sidecar was started"),
];

/// A member of an enum that is being explained.
#[derive(Clone, Copy)]
struct Row {
    number: u64,
    name: &'static str,
    words: &'static str,
}

fn rows(schema: &'static EnumSchema) -> impl Iterator<Item = Row> {
    schema.members.iter().map(|member| Row { number: member.value, name: member.name, words: member.doc })
}

/// The stage that gives a reject code.
fn stage(number: u64) -> &'static str {
    STAGES.iter().rev().find(|(first, ..)| number >= u64::from(*first)).map_or("none", |(_, name, _)| name)
}

/// Prints it. Exit code: 0 known, 1 a code that there is not.
pub fn run(arguments: &ExplainArguments) -> Result<ExitCode, String> {
    if arguments.markdown {
        print!("{}", markdown());
        return Ok(ExitCode::SUCCESS);
    }
    let asked = |row: &Row| {
        let is_meant = |code: &String| code.eq_ignore_ascii_case(row.name) || code.parse() == Ok(row.number);
        arguments.codes.is_empty() || arguments.codes.iter().any(is_meant)
    };
    let codes: Vec<Row> = rows(RejectCode::SCHEMA).filter(asked).collect();
    // Reasons have numbers of their own, which as codes would mean something else.
    let reasons: Vec<Row> = rows(CancelReason::SCHEMA).filter(|_| arguments.codes.is_empty()).collect();
    if arguments.json {
        let row = |row: &Row| json!({"number": row.number, "name": row.name, "words": row.words});
        let code = |row: &Row| json!({"number": row.number, "name": row.name, "stage": stage(row.number), "words": row.words});
        let (codes, reasons): (Vec<Value>, Vec<Value>) = (codes.iter().map(code).collect(), reasons.iter().map(row).collect());
        println!("{:#}", json!({"codes": codes, "reasons": reasons}));
    } else {
        for row in &codes {
            println!("{:<4}{:<24}{}: {}", row.number, row.name, stage(row.number), row.words);
        }
        if !reasons.is_empty() {
            println!("\nWhy orders are cancelled (`reason`):");
            reasons.iter().for_each(|row| println!("{:<4}{:<24}{}", row.number, row.name, row.words));
        }
    }
    let unknown =
        arguments.codes.iter().find(|code| !codes.iter().any(|row| code.eq_ignore_ascii_case(row.name) || code.parse() == Ok(row.number)));
    if let Some(code) = unknown {
        eprintln!("ringlane: there is no reject code {code}; without a code, `ringlane explain` prints all");
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// The page of all numbers.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# Codes\n\nMade by `make codes` from `layout/src/order_codes.rs`; `ringlane explain CODE` and `ringlane.explain(result)` say the \
         same of one.\n\n## Why a request was rejected\n\nThe field `code` of a result; 0 is accepted. A request goes through the stages in this order, and \
         the first objection decides. Nothing has changed when a request was rejected. Numbers are never reused.\n",
    );
    for (first, name, what) in STAGES {
        let _ = write!(page, "\n### {first}: {name}\n\n{what}.\n\n| code | name | meaning |\n| --- | --- | --- |\n");
        for row in rows(RejectCode::SCHEMA).filter(|row| row.number / 100 * 100 == u64::from(first)) {
            let _ = writeln!(page, "| {} | `{}` | {} |", row.number, row.name, row.words);
        }
    }
    page += "\n## Why an order was cancelled\n\nThe field `reason` of results and events.\n\n| reason | name | meaning |\n| --- | --- | --- |\n";
    for row in rows(CancelReason::SCHEMA) {
        let _ = writeln!(page, "| {} | `{}` | {} |", row.number, row.name, row.words);
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_code_says() {
        let page = include_str!("../../layout/CODES.md");
        assert!(page == markdown(), "layout/CODES.md is stale: run `make codes`, and read what it changed");
    }

    #[test]
    fn every_code_has_its_stage_and_its_line() {
        let page = markdown();
        for row in rows(RejectCode::SCHEMA).chain(rows(CancelReason::SCHEMA)) {
            assert!(page.contains(&format!("| {} | `{}` | ", row.number, row.name)), "{} is not on the page", row.name);
            assert!(!row.words.contains('|') && !row.words.contains('\n'), "{} breaks the table", row.name);
        }
        assert_eq!([101, 217, 308, 404, 501].map(stage), ["structure", "validate", "risk", "business rules", "operation"]);
    }
}
