//! `ringlane export`: the tables of a recording as files that other tools read.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ringlane_layout::record::{FieldSchema, RecordSchema};
use serde_json::{Value, json};

use super::filter::Filter;
use super::parquet::Parquet;
use super::place::Place;
use super::sinks::{Csv, JsonLines, Npy, Sink};
use super::tables::{Table, USUAL, frame_row, tables};
use super::walk::Walk;
use crate::journal::{FrameKind, Reader, schema};

/// Options of `ringlane export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// Journal directory, or its first segment, which is read with those that follow it.
    #[arg(required_unless_present = "describe")]
    recording: Option<PathBuf>,
    /// Format of the files.
    #[arg(long, default_value = "csv")]
    to: Format,
    /// Directory for the files, one a table; made if need be [default: RECORDING.export].
    #[arg(long)]
    out: Option<PathBuf>,
    /// Tables, with commas between; `all` for every one [default: orders,results,events,trades,instruments].
    #[arg(long, value_delimiter = ',')]
    tables: Vec<String>,
    /// Nothing behind this sequence number or time.
    #[arg(long, value_name = "SEQ|TIME")]
    until: Option<Place>,
    #[command(flatten)]
    filter: Filter,
    /// Say what was written as JSON.
    #[arg(long)]
    json: bool,
    /// Instead of all that: print the kinds of frames that a recording of this version can hold, with their records' fields,
    /// as JSON.
    #[arg(long)]
    describe: bool,
}

/// Formats of exported files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// A numpy structured array.
    Npy,
}

impl Format {
    fn sink(self, directory: &Path, table: &Table) -> Result<(PathBuf, Box<dyn Sink>), String> {
        let extension = self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        let path = directory.join(format!("{}.{extension}", table.name));
        let sink: Box<dyn Sink> = match self {
            Self::Csv => Box::new(Csv::create(&path, table)?),
            Self::Jsonl => Box::new(JsonLines::create(&path, table)?),
            Self::Parquet => Box::new(Parquet::create(&path, table)?),
            Self::Npy => Box::new(Npy::create(&path, table)?),
        };
        Ok((path, sink))
    }
}

/// A table and where its rows go.
struct Output {
    table: Table,
    path: PathBuf,
    sink: Box<dyn Sink>,
}

/// Runs the command.
pub fn run(arguments: &ExportArguments) -> Result<ExitCode, String> {
    if arguments.describe {
        println!("{:#}", description());
        return Ok(ExitCode::SUCCESS);
    }
    let recording = arguments.recording.as_deref().unwrap_or_else(|| Path::new("."));
    let wanted = choose(&arguments.tables)?;
    let directory = arguments.out.clone().unwrap_or_else(|| {
        let mut name = recording.file_name().unwrap_or_default().to_owned();
        name.push(".export");
        recording.with_file_name(name)
    });
    // The recording is opened first: what is none leaves no empty files behind.
    let mut walk = Walk::open_at(recording, arguments.filter.from, arguments.until)?;
    std::fs::create_dir_all(&directory).map_err(|error| format!("cannot make {}: {error}", directory.display()))?;
    let mut outputs = Vec::new();
    for table in wanted {
        let (path, sink) = arguments.to.sink(&directory, &table)?;
        outputs.push(Output { table, path, sink });
    }
    frames(arguments, recording, &mut outputs)?;
    let outcome = if outputs.iter().any(|output| !output.table.is_frames()) { rows(arguments, &mut walk, &mut outputs) } else { Ok(()) };
    let mut written = Vec::new();
    for Output { table, path, sink } in outputs {
        written.push(json!({"table": table.name, "file": path, "rows": sink.finish()?}));
    }
    outcome?;
    if arguments.json {
        println!("{:#}", json!({"files": written, "torn": walk.torn()}));
    } else {
        for file in &written {
            println!("{:>12} rows  {}", file["rows"], file["file"].as_str().unwrap_or(""));
        }
    }
    if let (snapshot, true) = walk.begun() {
        eprintln!("ringlane: {}: what came before sequence {} was pruned", recording.display(), snapshot + 1);
    }
    let torn = walk.torn();
    torn.iter().for_each(|words| eprintln!("ringlane: {}: {words}", recording.display()));
    Ok(if torn.is_some() { ExitCode::from(2) } else { ExitCode::SUCCESS })
}

/// Kinds of frames and the layout of their records.
fn description() -> Value {
    let record = |schema: &RecordSchema| {
        let field = |field: &FieldSchema| {
            json!({
                "name": field.name, "type": field.type_name, "offset": field.offset_bytes, "size": field.size_bytes,
                "enum": field.enum_name, "doc": field.doc,
            })
        };
        json!({"name": schema.name, "doc": schema.doc, "size": schema.size_bytes, "fields": schema.fields.iter().map(field).collect::<Vec<_>>()})
    };
    let kinds = FrameKind::SCHEMA.members.iter().map(|member| {
        let schema = FrameKind::try_from(member.value as u8).ok().and_then(schema);
        json!({"name": member.name, "value": member.value, "doc": member.doc, "record": schema.map(record)})
    });
    json!({"kinds": kinds.collect::<Vec<_>>()})
}

fn choose(names: &[String]) -> Result<Vec<Table>, String> {
    let all = tables();
    if names.iter().any(|name| name == "all") {
        return Ok(all);
    }
    let known = || all.iter().map(|table| table.name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = names.iter().find(|name| all.iter().all(|table| table.name != **name)) {
        return Err(format!("there is no table {unknown:?}; a recording has {}", known()));
    }
    let is_wanted = |table: &Table| if names.is_empty() { USUAL.contains(&table.name.as_str()) } else { names.contains(&table.name) };
    Ok(all.iter().filter(|table| is_wanted(table)).cloned().collect())
}

fn rows(arguments: &ExportArguments, walk: &mut Walk, outputs: &mut [Output]) -> Result<(), String> {
    let path = walk.path().to_owned();
    let mut numbers = walk.event_numbers();
    let filter = &arguments.filter;
    let all = !filter.names_any() && filter.from.is_none();
    while let Some(step) = walk.step().map_err(|halt| halt.words(&path))? {
        numbers.see(&step);
        for Output { table, sink, .. } in &mut *outputs {
            let subject = table.subject();
            table.rows(&step, &mut numbers, |place, parts| {
                if all || filter.wants(step.engine, place, subject, parts[parts.len() - 1]) { sink.row(parts) } else { Ok(()) }
            })?;
        }
    }
    Ok(())
}

/// Frames are told as they stand in the files; no engine sees them.
fn frames(arguments: &ExportArguments, recording: &Path, outputs: &mut [Output]) -> Result<(), String> {
    let Some(output) = outputs.iter_mut().find(|output| output.table.is_frames()) else { return Ok(()) };
    let mut reader = Reader::open_from(recording)?;
    while let Some(frame) = reader.next_frame()? {
        let (header, count) = (frame.header, frame.records.len());
        if arguments.until.is_some_and(|until| until.is_before(header.first_sequence, header.time_ns)) {
            break;
        }
        let last = header.first_sequence + (count as u64).saturating_sub(1);
        if arguments.filter.from.is_none_or(|from| from.is_reached(last, header.time_ns)) {
            let (segment, offset) = reader.frame_place();
            output.sink.row(&[bytemuck::bytes_of(&frame_row(segment, offset)), bytemuck::bytes_of(&header)])?;
        }
    }
    Ok(())
}
