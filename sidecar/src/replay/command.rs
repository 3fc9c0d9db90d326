//! `ringlane replay`: recordings are lived through again, at any speed, and told, checked or reported.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use ringlane_layout::orders::{OrderEvent, OrderResult};
use ringlane_layout::record::Record;
use serde_json::{Value, json};

use super::columns::{record_json, record_text};
use super::filter::Filter;
use super::jobs::RecordedJobs;
use super::place::{Place, time_text};
use super::progress::Progress;
use super::report;
use super::series::Series;
use super::verify::{self, Verdict};
use super::walk::{Halt, Step, Walk};
use crate::journal::{FrameKind, schema};
use crate::kernels::door::Kernels;
use crate::kernels::orders::Outgoing;

/// Options of `ringlane replay`.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// Journal directories, or first segments, which are read with those that follow them.
    #[arg(required = true)]
    recordings: Vec<PathBuf>,
    /// max, original (as the recorded times say), or x10 for ten times as fast.
    #[arg(long, default_value = "max")]
    speed: Speed,
    /// Stop behind this sequence number or time; the state hash is of that moment.
    #[arg(long, value_name = "SEQ|TIME")]
    until: Option<Place>,
    #[command(flatten)]
    filter: Filter,
    /// Print every record and what came of it; `--from`, `--lane`, `--account` and `--symbol` print too, and narrow it.
    #[arg(long)]
    print: bool,
    /// Compare all outputs with the recorded ones, and say where they part: the records of one frame (of up to 256; one, where
    /// orders came one by one), what comes of them now, and the book before them. A journal holds one hash of all outputs before
    /// each frame, not the results themselves, so which of those records and which field it was cannot be told from it alone; nor
    /// can anything of the last frame, where the sidecar was killed and no end mark with a hash stands behind it. `--against` tells
    /// both.
    #[arg(long)]
    verify: bool,
    /// With --verify: compare every record, result, event and queue with those of this recording; the first difference is told by
    /// sequence number, field, both values and the book before it.
    #[arg(long, value_name = "OTHER", requires = "verify")]
    against: Option<PathBuf>,
    /// Write one self-contained page of charts: throughput, waits, queue depth, rejects, prices, trades and depth.
    #[arg(long, value_name = "FILE.html", conflicts_with = "verify")]
    report: Option<PathBuf>,
    /// As JSON; printed records come as one line each, before the summary.
    #[arg(long)]
    json: bool,
}

/// How fast time goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    Max,
    Times(f64),
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let times = text.strip_prefix('x').and_then(|times| times.parse::<f64>().ok()).filter(|times| times.is_finite() && *times > 0.0);
        match (text, times) {
            ("max", _) => Ok(Self::Max),
            ("original", _) => Ok(Self::Times(1.0)),
            (_, Some(times)) => Ok(Self::Times(times)),
            _ => Err(format!("{text:?} is no speed; write max, original or x10")),
        }
    }
}

/// Lets recorded time pass.
struct Pace {
    times: f64,
    begin: Option<(Instant, u64)>,
}

impl Pace {
    fn wait(&mut self, time_ns: u64) {
        let (begin, begin_ns) = *self.begin.get_or_insert_with(|| (Instant::now(), time_ns));
        let due = Duration::from_secs_f64(time_ns.saturating_sub(begin_ns) as f64 / 1e9 / self.times);
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
    }
}

/// Runs the command.
pub fn run(arguments: &ReplayArguments) -> Result<ExitCode, String> {
    let mut summaries = Vec::new();
    let (mut worst, mut failed) = (0, None);
    for recording in &arguments.recordings {
        match replay_one(arguments, recording) {
            Ok((summary, code)) => {
                worst = worst.max(code);
                if !arguments.json {
                    print_summary(&summary, arguments.recordings.len() > 1);
                }
                if let Some(words) = summary["torn"].as_str() {
                    eprintln!("ringlane: {}: {words}", recording.display());
                }
                summaries.push(summary);
            }
            // The others are told all the same.
            Err(words) if arguments.recordings.len() > 1 => {
                eprintln!("ringlane: {words}");
                worst = 2;
                summaries.push(json!({"recording": recording, "error": words}));
            }
            Err(words) => failed = Some(words),
        }
    }
    if let Some(words) = failed {
        return Err(words);
    }
    if arguments.json {
        let whole = if summaries.len() == 1 { summaries.remove(0) } else { Value::from(summaries) };
        if prints(arguments) { println!("{whole}") } else { println!("{whole:#}") }
    }
    Ok(ExitCode::from(worst))
}

fn prints(arguments: &ReplayArguments) -> bool {
    arguments.print || arguments.filter.names_any() || (arguments.filter.from.is_some() && arguments.report.is_none())
}

fn replay_one(arguments: &ReplayArguments, recording: &Path) -> Result<(Value, u8), String> {
    if arguments.report.is_some() && arguments.recordings.len() > 1 {
        return Err("a report is of one recording; name one".into());
    }
    let begin = Instant::now();
    let from = arguments.filter.from.filter(|_| !arguments.verify);
    let mut walk = Walk::open_at(recording, from, arguments.until)?;
    let mut jobs = RecordedJobs::new(arguments.verify.then(Kernels::built_in));
    let verdict = if arguments.verify {
        let verdict = verify::verify(&mut walk, arguments.against.as_deref(), arguments.until)?;
        if verdict.difference.is_none() {
            verify_jobs(&mut jobs, recording, arguments.until)?;
        }
        Some(verdict)
    } else {
        let mut series = arguments.report.as_ref().map(|_| Series::new(arguments.filter.from));
        tell(arguments, &mut walk, series.as_mut(), &mut jobs)?;
        if let (Some(series), Some(path)) = (series, &arguments.report) {
            report::write(path, &walk, &series, &summary(&walk, begin.elapsed()))?;
        }
        None
    };
    let mut summary = summary(&walk, begin.elapsed());
    let mut code = if summary["torn"].is_null() { 0 } else { 2 };
    if let Some(verdict) = verdict {
        code = code.max(u8::from(verdict.difference.is_some()));
        summary["verified"] = verdict_json(&verdict);
    }
    if let Some(found) = jobs.summary() {
        code = code.max(u8::from(jobs.is_different()));
        summary["jobs"] = found;
    }
    Ok((summary, code))
}

/// Goes through the recording once more and computes anew what lanes of other kernels were asked.
fn verify_jobs(jobs: &mut RecordedJobs, recording: &Path, until: Option<Place>) -> Result<(), String> {
    let mut walk = Walk::open(recording, until)?;
    while let Some(step) = walk.step().map_err(|halt| halt.words(recording))? {
        jobs.add(&step).map_err(|words| format!("{}: {words}", recording.display()))?;
    }
    Ok(())
}

fn verdict_json(verdict: &Verdict) -> Value {
    json!({"equal": verdict.difference.is_none(), "records": verdict.records, "difference": verdict.difference, "scope": verdict.scope})
}

/// Walks to the end and prints what is wanted.
fn tell(arguments: &ReplayArguments, walk: &mut Walk, mut series: Option<&mut Series>, jobs: &mut RecordedJobs) -> Result<(), String> {
    let path = walk.path().to_owned();
    let progress = Progress::new(walk);
    let mut pace = match arguments.speed {
        Speed::Max => None,
        Speed::Times(times) => Some(Pace { times, begin: None }),
    };
    let prints = prints(arguments);
    let outcome = loop {
        match walk.step() {
            Ok(Some(step)) => {
                let is_reached = |from: Place| from.is_reached(step.engine.next_sequence().saturating_sub(1), step.header.time_ns);
                if let Some(pace) = pace.as_mut().filter(|_| arguments.filter.from.is_none_or(is_reached)) {
                    pace.wait(step.header.time_ns);
                }
                if let Some(series) = &mut series {
                    series.add(&step);
                }
                jobs.add(&step).map_err(|words| format!("{}: {words}", path.display()))?;
                if prints {
                    print_frame(arguments, &step, &progress);
                }
            }
            Ok(None) => break walk.check_end(),
            Err(halt) => break Err(halt),
        }
        progress.show(walk);
    };
    progress.end();
    outcome.map_err(|halt: Halt| halt.words(&path))
}

/// Prints the wanted records of one frame with their results and events.
fn print_frame(arguments: &ReplayArguments, step: &Step, progress: &Progress) {
    let Some(schema) = schema(step.kind) else { return };
    let header = &step.header;
    let mut events = step.events.iter().peekable();
    for (index, record) in step.records.iter().enumerate() {
        let sequence = header.first_sequence + index as u64;
        let bytes = bytemuck::bytes_of(record);
        let mut told = Vec::new();
        while let Some(outgoing) = events.next_if(|outgoing| step.kind != FrameKind::Orders || outgoing.event.sequence <= sequence) {
            told.extend(Some(outgoing).filter(|outgoing| outgoing.lane != 0));
        }
        if !arguments.filter.wants(step.engine, (sequence, header.time_ns, header.lane), schema, bytes) {
            continue;
        }
        let result = step.results.get(index).map(bytemuck::bytes_of);
        let kind = FrameKind::SCHEMA.members.iter().find(|kind| kind.value == u64::from(header.kind)).map_or("", |kind| kind.name);
        let line = if arguments.json {
            let events: Vec<Value> = told.into_iter().map(event_json).collect();
            let result = result.map(|result| record_json(OrderResult::SCHEMA, result));
            json!({
                "sequence": sequence, "time": time_text(header.time_ns), "time_ns": header.time_ns, "kind": kind, "lane": header.lane,
                "record": record_json(schema, bytes), "result": result, "events": events,
            })
            .to_string()
        } else {
            let mut line = format!("{sequence} {} {kind} lane {}  {}", time_text(header.time_ns), header.lane, record_text(schema, bytes));
            if let Some(result) = result {
                line += &format!("\n    -> {}", record_text(OrderResult::SCHEMA, result));
            }
            for outgoing in told {
                line += &format!(
                    "\n    event to lane {}: {}",
                    outgoing.lane,
                    record_text(OrderEvent::SCHEMA, bytemuck::bytes_of(&outgoing.event))
                );
            }
            line
        };
        progress.print(&line);
    }
}

fn event_json(outgoing: &Outgoing) -> Value {
    let mut event = record_json(OrderEvent::SCHEMA, bytemuck::bytes_of(&outgoing.event));
    event.remove("number");
    event.insert("lane".into(), outgoing.lane.into());
    event.into()
}

/// What a walk came to.
fn summary(walk: &Walk, took: Duration) -> Value {
    let engine = walk.engine();
    let counters = engine.orders.counters();
    let (frames, records, bytes) = walk.counts();
    let seconds = took.as_secs_f64();
    json!({
        "recording": walk.path(), "state_hash": format!("{:016x}", engine.orders.state_hash()),
        "output_hash": format!("{:016x}", engine.output_hash()), "sequence": engine.next_sequence() - 1, "frames": frames,
        "records": records, "bytes": bytes, "accepted": counters.accepted, "rejected": counters.rejected, "trades": counters.trades,
        "resting": counters.resting, "seconds": seconds, "records_per_s": (records as f64 / seconds.max(1e-9)).round(),
        "torn": walk.torn(), "snapshot": walk.begun().0, "pruned": walk.begun().1, "version": env!("CARGO_PKG_VERSION"),
    })
}

fn print_summary(summary: &Value, is_one_of_several: bool) {
    if is_one_of_several {
        println!("{}", summary["recording"].as_str().unwrap_or(""));
    }
    if summary["pruned"] == true {
        println!("begins at    the snapshot of sequence {}; what came before was pruned", summary["snapshot"]);
    }
    println!("state hash   {}", summary["state_hash"].as_str().unwrap_or(""));
    println!("sequence     {} ({} frames)", summary["sequence"], summary["frames"]);
    println!(
        "orders       {} accepted, {} rejected, {} trades, {} resting",
        summary["accepted"], summary["rejected"], summary["trades"], summary["resting"]
    );
    let (seconds, rate) = (summary["seconds"].as_f64().unwrap_or(0.0), summary["records_per_s"].as_f64().unwrap_or(0.0));
    println!("replayed     {} records in {seconds:.2} s, {:.2} M/s", summary["records"], rate / 1e6);
    if let Some(jobs) = summary.get("jobs") {
        println!("other lanes  {} recorded: {} slots asked, {} answered", jobs["lanes"], jobs["asked"], jobs["answered"]);
        if let Some(words) = jobs["difference"].as_str() {
            println!("             {} DIFFERENT: {words}", jobs["different"]);
        } else if jobs.get("recomputed").is_some() {
            println!("             {} equal, {} not computed anew", jobs["recomputed"], jobs["not_recomputed"]);
        }
    }
    if let Some(verified) = summary.get("verified") {
        let scope = verified["scope"].as_str().unwrap_or("");
        match verified["difference"]["words"].as_str() {
            Some(words) => println!("verified     DIFFERENT ({scope})\n{words}"),
            None => println!("verified     {} records equal ({scope})", verified["records"]),
        }
    }
}
