//! Order requests from comma-separated values: columns are named by the header line and are the fields of a request, and
//! `lane` and `time_ns` besides. Other columns (`sequence`, `slot`, ...) are passed over.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use clap::Args;
use ringlane_layout::limits::BATCH_SLOTS_MAX;
use ringlane_layout::orders::OrderRequest;
use ringlane_layout::record::Record;
use serde_json::{Map, Value};

use super::columns::{Column, Form, columns};
use super::filter::symbol_number;
use super::import::{Recorder, Target};
use crate::config::Config;
use crate::engine::Engine;

/// Longest line, bytes.
const LINE_BYTES_MAX: usize = 4096;

/// Options of `ringlane import csv`.
#[derive(Debug, Args)]
pub struct CsvArguments {
    /// The file. Its header line names fields of an order request (op, side, symbol, account, price, ...); enums by name or
    /// number, symbols too, prices in price units, or in decimals if there is a point in them. Columns `lane` and `time_ns` may
    /// be there; without them every order comes through lane 1, at second 0 of 1970.
    file: PathBuf,
    #[command(flatten)]
    pub target: Target,
    /// Configuration that names instruments and accounts [default: the built-in ones].
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Where a column of the file goes.
enum Goes {
    Field(Column),
    Lane,
    Time,
    Nowhere,
}

/// Requests of one lane and time that are not recorded yet.
#[derive(Default)]
struct Batch {
    lane: u32,
    time_ns: u64,
    requests: Vec<OrderRequest>,
}

/// Makes the recording.
pub fn import(arguments: &CsvArguments) -> Result<Map<String, Value>, String> {
    let path = &arguments.file;
    let say = |error: &dyn std::fmt::Display| format!("cannot read {}: {error}", path.display());
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).map_err(|error| say(&error))?);
    let config = arguments.config.as_deref().map_or_else(|| Ok(Config::default()), Config::read)?;
    let mut line = String::new();
    let mut next = |line: &mut String| {
        line.clear();
        file.read_line(line).map_err(|error| say(&error))
    };
    next(&mut line)?;
    let header = header(path, line.trim_start_matches('\u{feff}').trim_end())?;
    let mut recorder = None;
    let (mut batch, mut number) = (Batch::default(), 1_u64);
    while next(&mut line)? > 0 {
        number += 1;
        let text = line.trim_end();
        if text.is_empty() {
            continue;
        }
        let at = |words: String| format!("{} line {number}: {words}", path.display());
        if text.len() > LINE_BYTES_MAX {
            return Err(at(format!("a line has {LINE_BYTES_MAX} bytes at most")));
        }
        let values: Vec<&str> = text.split(',').map(|value| value.trim().trim_matches('"')).collect();
        if values.len() != header.len() {
            return Err(at(format!("{} values where the header line has {} names", values.len(), header.len())));
        }
        if recorder.is_none() {
            let time_ns =
                header.iter().zip(&values).find(|(target, _)| matches!(target, Goes::Time)).and_then(|(_, value)| value.parse().ok());
            recorder = Some(Recorder::begin(&arguments.target.out, &config, time_ns.unwrap_or(0))?);
        }
        let Some(recorder) = &mut recorder else { continue };
        let (lane, time_ns, request) = row(&header, &values, recorder.engine()).map_err(at)?;
        if (lane, time_ns) != (batch.lane, batch.time_ns) || batch.requests.len() == BATCH_SLOTS_MAX {
            batch.record(recorder)?;
            (batch.lane, batch.time_ns) = (lane, time_ns);
        }
        batch.requests.push(request);
    }
    let Some(mut recorder) = recorder else { return Err(format!("{}: there is no order in it", path.display())) };
    batch.record(&mut recorder)?;
    recorder.end()
}

impl Batch {
    fn record(&mut self, recorder: &mut Recorder) -> Result<(), String> {
        if !self.requests.is_empty() {
            recorder.orders(self.lane, self.time_ns, &self.requests)?;
            self.requests.clear();
        }
        Ok(())
    }
}

fn header(path: &Path, line: &str) -> Result<Vec<Goes>, String> {
    let fields = columns(&[OrderRequest::SCHEMA]);
    let target = |name: &str| match name {
        "lane" => Goes::Lane,
        "time_ns" => Goes::Time,
        name => fields.iter().find(|field| field.name == name).map_or(Goes::Nowhere, |field| Goes::Field(*field)),
    };
    let header: Vec<Goes> = line.split(',').map(|name| target(name.trim().trim_matches('"'))).collect();
    for needed in ["op", "symbol", "account"] {
        if !header.iter().any(|target| matches!(target, Goes::Field(field) if field.name == needed)) {
            let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
            return Err(format!(
                "{}: its first line names no column {needed:?}; order requests have {}, and lane and time_ns besides",
                path.display(),
                names.join(", ")
            ));
        }
    }
    Ok(header)
}

fn row(header: &[Goes], values: &[&str], engine: &Engine) -> Result<(u32, u64, OrderRequest), String> {
    let (mut lane, mut time_ns, mut request) = (1, 0, OrderRequest::default());
    let digits = |name: &str, value: &str| value.parse::<u64>().map_err(|_| format!("{name} {value:?} is not a whole number"));
    // Prices in decimals need the symbol, wherever its column stands.
    let symbol = header.iter().zip(values).find(|(target, _)| matches!(target, Goes::Field(field) if field.name == "symbol"));
    let symbol = symbol.map_or(0, |(_, value)| symbol_number(engine, value).unwrap_or(0));
    for (target, value) in header.iter().zip(values) {
        match target {
            Goes::Nowhere => {}
            Goes::Lane => {
                let number = u32::try_from(digits("lane", value)?).ok().filter(|lane| (1..=1 << 24).contains(lane));
                lane = number.ok_or_else(|| format!("lane {value} is not 1 to 2^24"))?;
            }
            Goes::Time => time_ns = digits("time_ns", value)?,
            Goes::Field(field) => {
                let raw = field_value(field, value, (symbol, engine))?;
                let place = field.field.offset_bytes..field.field.offset_bytes + field.field.size_bytes;
                bytemuck::bytes_of_mut(&mut request)[place].copy_from_slice(&raw.to_le_bytes()[..field.field.size_bytes]);
            }
        }
    }
    Ok((lane, time_ns, request))
}

/// The bits of one value.
fn field_value(field: &Column, value: &str, (symbol, engine): (u32, &Engine)) -> Result<u64, String> {
    let name = field.name;
    if value.is_empty() {
        return Ok(0);
    }
    if name == "symbol" && value.parse::<u32>().is_err() {
        return if symbol > 0 { Ok(symbol.into()) } else { Err(format!("there is no symbol {value:?}; `--config` names instruments")) };
    }
    if let Form::Name(names) = field.form {
        let number =
            |word: &str| names.members.iter().find(|member| member.name == word).map(|member| member.value).or_else(|| word.parse().ok());
        let bits = value.split('|').map(number).try_fold(0, |bits, word| Some(bits | word?));
        return bits
            .filter(|bits| fits(*bits, field.field.size_bytes))
            .ok_or_else(|| format!("{name} {value:?} is neither a name nor a number"));
    }
    let text = match value.split_once('.') {
        Some((whole, fraction)) if name.ends_with("price") => {
            let instruments = engine.orders.instruments();
            let known = (symbol as usize).checked_sub(1).and_then(|index| instruments.get(index));
            let decimals = known.map_or(0, |instrument| instrument.price_decimals as usize);
            let fraction = fraction.trim_end_matches('0');
            if fraction.len() > decimals {
                return Err(format!("{name} {value} has more than the symbol's {decimals} decimals"));
            }
            format!("{whole}{fraction:0<decimals$}")
        }
        _ => value.to_owned(),
    };
    let wrong = || format!("{name} {value:?} is not a whole number that the field can hold");
    let size = field.field.size_bytes;
    match field.form {
        Form::Signed(_) => {
            let number: i64 = text.parse().map_err(|_| wrong())?;
            let shift = 64 - 8 * size as u32;
            if (number << shift) >> shift == number { Ok(number.cast_unsigned()) } else { Err(wrong()) }
        }
        _ => text.parse().ok().filter(|bits| fits(*bits, size)).ok_or_else(wrong),
    }
}

fn fits(bits: u64, size_bytes: usize) -> bool {
    bits <= u64::MAX >> (64 - 8 * size_bytes)
}
