//! How a report looks to Sentry: an envelope with one event in it.

use std::hash::{BuildHasher, RandomState};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};

use super::Words;
use super::panic::Panicked;
use crate::status::lane_status;

/// Most frames of a stack that are sent.
const FRAMES_MAX: usize = 64;

/// What every event says of this sidecar.
pub(super) struct Origin {
    environment: String,
    server_name: String,
    random: RandomState,
    events: u64,
}

impl Origin {
    pub(super) fn new(environment: &str) -> Self {
        let server_name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { environment: environment.to_owned(), server_name: server_name.trim().to_owned(), random: RandomState::new(), events: 0 }
    }

    /// An envelope of one event, `what` beside what every event says.
    pub(super) fn envelope(&mut self, what: Value) -> String {
        self.events += 2;
        let (high, low) = (self.random.hash_one(self.events), self.random.hash_one(self.events + 1));
        let id = format!("{high:016x}{low:016x}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let mut event = json!({
            "event_id": id,
            "timestamp": now,
            "platform": "native",
            "release": concat!("ringlane@", env!("CARGO_PKG_VERSION")),
            "dist": ringlane_layout::BUILD_HASH,
            "environment": self.environment,
            "server_name": self.server_name,
        });
        if let (Some(event), Value::Object(what)) = (event.as_object_mut(), what) {
            event.extend(what);
        }
        let event = event.to_string();
        format!("{}\n{}\n{event}\n", json!({ "event_id": id }), json!({ "type": "event", "length": event.len() }))
    }
}

/// Something that the log tells of too; `count`: how often within the last minute.
pub(super) fn said(words: &Words, level: &str, count: u64) -> Value {
    let tag = |name: &str| words.fields.get(name).cloned();
    let tags: Map<String, Value> = ["kernel", "status"].into_iter().filter_map(|name| Some((name.to_owned(), json!(tag(name)?)))).collect();
    json!({
        "level": level,
        "logger": words.target,
        "message": { "formatted": words.message },
        // Lanes and numbers differ; what went wrong is one thing.
        "fingerprint": [words.target, words.message, tag("status").unwrap_or_default()],
        "tags": tags,
        "contexts": { if words.fields.contains_key("lane") { "lane" } else { "about" }: words.fields },
        "extra": { "in_the_last_minute": count },
    })
}

/// A panic.
pub(super) fn panicked(panicked: &Panicked, now_ns: u64) -> Value {
    let lane = panicked.lane.as_deref().map(|row| lane_status(row, now_ns));
    json!({
        "level": "fatal",
        "logger": "panic",
        "exception": { "values": [{
            "type": "panic",
            "value": format!("{} ({})", panicked.message, panicked.place),
            "mechanism": { "type": "panic", "handled": false },
            "stacktrace": { "frames": frames(&panicked.backtrace.to_string()) },
        }] },
        "tags": { "thread": panicked.thread, "kernel": lane.as_ref().map(|lane| lane["kernel"].clone()) },
        "contexts": { "lane": lane },
    })
}

/// The frames of a printed stack, the oldest first; those of the panic itself are left out.
fn frames(stack: &str) -> Vec<Value> {
    let mut frames: Vec<Value> = Vec::new();
    for line in stack.lines().map(str::trim) {
        if let Some(place) = line.strip_prefix("at ") {
            let mut parts = place.rsplitn(3, ':');
            let (column, number, file) = (parts.next(), parts.next(), parts.next());
            if let (Some(frame), Some(file), Some(number)) = (frames.last_mut(), file, number) {
                frame["filename"] = json!(file);
                frame["in_app"] = json!(!file.starts_with("/rustc/") && !file.contains("/.cargo/"));
                frame["lineno"] = json!(number.parse::<u64>().ok());
                frame["colno"] = json!(column.and_then(|column| column.parse::<u64>().ok()));
            }
        } else if let Some((number, name)) = line.split_once(": ")
            && number.parse::<u32>().is_ok()
        {
            frames.push(json!({ "function": name, "in_app": false }));
        }
    }
    // Where a thread begins std catches panics, in frames of the same names: those at this end of the stack are meant.
    let has = |frame: &Value, part: &str| frame["function"].as_str().is_some_and(|name| name.contains(part));
    let begun = frames.iter().position(|frame| has(frame, "begin_unwind") || has(frame, "begin_panic"));
    let of_panic = begun.map_or(0, |begun| begun + 1);
    let begin = of_panic + frames[of_panic..].iter().take_while(|frame| has(frame, "core::panicking")).count();
    frames.drain(..begin);
    frames.truncate(FRAMES_MAX);
    frames.reverse();
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_printed_stack_are_those_before_the_panic() {
        let stack = "   0: std::panicking::panic_with_hook\n   1: std::sys::backtrace::__rust_end_short_backtrace\n   \
                     2: __rustc::rust_begin_unwind\n             at /rustc/x/panicking.rs:1:2\n   3: core::panicking::panic_fmt\n   \
                     4: ringlane_sidecar::kernels::f\n             at /a/f.rs:12:34\n   5: std::panicking::catch_unwind::do_call\n   \
                     6: main\n";
        let frames = frames(stack);
        assert_eq!(frames[0]["function"], "main");
        assert_eq!(
            frames[2],
            json!({"function": "ringlane_sidecar::kernels::f", "in_app": true, "filename": "/a/f.rs", "lineno": 12, "colno": 34})
        );
        assert_eq!(frames.len(), 3);
    }
}
