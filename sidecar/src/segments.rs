//! `ringlane journal`: what lies in a journal's directory, whether all of it is whole, and room for more.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::journal::{
    Damage, JournalEnd, JournalLock, Kept, Reader, Snapshot, VoidRange, drop_damaged, examine, first_may_go, list_snapshots, survey,
};
use crate::replay::place::time_text;

/// What is to be done.
#[derive(Subcommand)]
pub enum JournalCommand {
    /// List segments and snapshots.
    List(Place),
    /// Read every frame and every snapshot, and check what guards them. Exit code: 0 whole (an end that was never
    /// acknowledged is told), 2 damaged, foreign or no journal.
    Verify(Place),
    /// Remove the segments that the newest good snapshot but one covers (the newest, where there is one alone): if the newest is
    /// damaged one day, a start goes on from the other. A sidecar that runs does so by itself when it reaches its cap.
    Prune(Place),
    /// Say what of a journal that is damaged in its middle would have to be dropped, so that a sidecar starts with it again:
    /// everything behind the damage. Exit code: 0 nothing to drop, or dropped; 1 something would be; 2 no journal, or not damaged
    /// but of another version.
    Salvage {
        /// Where.
        #[command(flatten)]
        place: Place,
        /// Drop it. What was answered there is lost to the sidecar; the damaged files are kept beside, as *.damaged.
        #[arg(long)]
        drop: bool,
    },
}

/// Where, and how it is told.
#[derive(Args)]
pub struct Place {
    /// Directory of the journal.
    directory: PathBuf,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Does it.
pub fn run(command: &JournalCommand) -> Result<ExitCode, String> {
    let (place, (value, text)) = match command {
        JournalCommand::List(place) => (place, list(&place.directory)?),
        JournalCommand::Verify(place) => (place, verify(&place.directory)?),
        JournalCommand::Prune(place) => (place, prune(&place.directory)?),
        JournalCommand::Salvage { place, drop } => (place, salvage(&place.directory, *drop)?),
    };
    if place.json {
        println!("{value:#}")
    } else {
        print!("{text}")
    }
    let has_to_drop = value["damage"].is_string() && value["dropped"] == false;
    Ok(if has_to_drop { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// Segments, and snapshots with their sequence numbers.
type Found = (Vec<Kept>, Vec<(u64, PathBuf)>);

/// Segments and snapshots of a directory that has some.
fn found(directory: &Path) -> Result<Found, String> {
    if !directory.is_dir() {
        return Err(format!("{} is not a journal's directory", directory.display()));
    }
    let (segments, snapshots) = (Vec::from(survey(directory)?), list_snapshots(directory));
    if segments.is_empty() && snapshots.is_empty() {
        return Err(format!("{} holds no journal: there is no *.ringlane file in it", directory.display()));
    }
    Ok((segments, snapshots))
}

fn list(directory: &Path) -> Result<(Value, String), String> {
    let (segments, snapshots) = found(directory)?;
    let mut text = format!("{:>10} {:>16} {:>14}  file\n", "segment", "first sequence", "bytes");
    for Kept { index, first_sequence, path, bytes } in &segments {
        let first = if *first_sequence == 0 { "not begun".into() } else { first_sequence.to_string() };
        text += &format!("{index:>10} {first:>16} {bytes:>14}  {}\n", path.display());
    }
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    for (sequence, path) in &snapshots {
        text += &format!("{:>10} {sequence:>16} {:>14}  {}\n", "snapshot", size(path), path.display());
    }
    let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
    text += &format!("{} segments, {total} bytes; {} snapshots\n", segments.len(), snapshots.len());
    let segments: Vec<Value> = segments
        .iter()
        .map(|segment| json!({"index": segment.index, "first_sequence": segment.first_sequence, "bytes": segment.bytes, "path": segment.path}))
        .collect();
    let snapshots: Vec<Value> =
        snapshots.iter().map(|(sequence, path)| json!({"sequence": sequence, "bytes": size(path), "path": path})).collect();
    Ok((json!({"segments": segments, "snapshots": snapshots, "total_bytes": total}), text))
}

fn verify(directory: &Path) -> Result<(Value, String), String> {
    let (segments, snapshots) = found(directory)?;
    let (mut frames, mut records, mut last) = (0_u64, 0_u64, 0);
    let (mut closed, mut torn, mut voids) = (true, None, Vec::new());
    let first = segments.iter().map(|segment| segment.first_sequence).find(|first| *first > 0).unwrap_or(0);
    if !segments.is_empty() {
        let mut reader = Reader::open(directory)?;
        while let Some(frame) = reader.next_frame()? {
            frames += 1;
            records += frame.records.len() as u64;
            last = frame.header.first_sequence + frame.records.len() as u64 - 1;
        }
        closed = reader.is_closed();
        voids = reader.voids().to_vec();
        if let Some(JournalEnd::Torn { segment, offset, why }) = reader.end() {
            torn = Some(format!("{} at offset {offset}: {why}", segment.display()));
        }
    }
    for (sequence, path) in &snapshots {
        let snapshot = Snapshot::read(path)?;
        if snapshot.header.sequence != *sequence {
            return Err(format!("{}: it stands at sequence {}", path.display(), snapshot.header.sequence));
        }
    }
    let mut text = format!(
        "whole: {} segments, {frames} frames, {records} records from sequence {first} to {last}; {} snapshots\n",
        segments.len(),
        snapshots.len()
    );
    match (&torn, closed) {
        (Some(place), _) => text += &format!("it ends in a torn frame, which was never acknowledged: {place}\n"),
        (None, false) => text += "it has no end mark: its sidecar was killed, or still runs\n",
        (None, true) => {}
    }
    voids.iter().for_each(|void| text += &format!("void, as an administrator said: {void}\n"));
    let voids: Vec<String> = voids.iter().map(VoidRange::to_string).collect();
    let value = json!({"segments": segments.len(), "voids": voids, "frames": frames, "records": records, "first_sequence": first,
        "last_sequence": last, "snapshots": snapshots.len(), "closed": closed, "torn": torn});
    Ok((value, text))
}

fn prune(directory: &Path) -> Result<(Value, String), String> {
    found(directory)?;
    let _lock = JournalLock::take(directory)?;
    // What was there may have changed before the lock; and only a snapshot that can be used covers anything.
    let good: Vec<u64> =
        list_snapshots(directory).into_iter().filter(|(_, path)| Snapshot::read(path).is_ok()).map(|(sequence, _)| sequence).collect();
    let mut kept = survey(directory)?;
    let (mut removed, mut bytes) = (Vec::new(), 0);
    let snapshot = good.get(1).or(good.first()).copied();
    while first_may_go(&kept, snapshot) {
        let Some(old) = kept.pop_front() else { break };
        std::fs::remove_file(&old.path).map_err(|error| format!("cannot remove {}: {error}", old.path.display()))?;
        bytes += old.bytes;
        removed.push(old.path);
    }
    let why = match snapshot {
        None => "no good snapshot covers anything".into(),
        Some(sequence) if good.len() > 1 => format!("the newest good snapshot but one stands at sequence {sequence}"),
        Some(sequence) => format!("the one good snapshot stands at sequence {sequence}"),
    };
    let mut text: String = removed.iter().map(|path| format!("removed {}\n", path.display())).collect();
    text += &format!("{} segments removed, {bytes} bytes, {} segments kept; {why}\n", removed.len(), kept.len());
    Ok((json!({"removed": removed, "bytes": bytes, "kept": kept.len(), "snapshot": snapshot}), text))
}

fn salvage(directory: &Path, drops: bool) -> Result<(Value, String), String> {
    found(directory)?;
    let _lock = drops.then(|| JournalLock::take(directory)).transpose()?;
    let Some(damage) = examine(directory)? else {
        let text = "nothing is damaged of what a start needs: nothing to drop\n".to_owned();
        return Ok((json!({"damage": null, "dropped": false}), text));
    };
    let kept = if drops { drop_damaged(directory, &damage)? } else { Vec::new() };
    let Damage { words, kept_upto, cut, segments, snapshots, lost } = &damage;
    let mut text = format!("damaged: {words}\nkept: everything up to sequence {kept_upto}\n");
    let verb = if drops { "dropped" } else { "to be dropped" };
    if let Some((path, offset)) = cut {
        text += &format!("{verb}: {} from offset {offset} on\n", path.display());
    }
    segments.iter().chain(snapshots).for_each(|path| text += &format!("{verb}: {}\n", path.display()));
    text += &format!("in it, whole: {} frames with {} records", lost.frames, lost.records);
    if let Some((first_ns, last_ns)) = lost.times_ns {
        let (first, last) = (time_text(first_ns), time_text(last_ns));
        text += &format!(", up to sequence {}, written from {first} to {last}", lost.last_sequence);
    }
    text += "\n";
    if drops {
        kept.iter().for_each(|path| text += &format!("kept beside: {}\n", path.display()));
    } else {
        text += "nothing was changed; `ringlane journal salvage --drop` does it, and keeps the damaged files beside as *.damaged. What was \
                 answered behind the damage is lost then, and clients that saw it are refused their lanes\n";
    }
    let value = json!({"damage": words, "kept_upto": kept_upto, "cut": cut.as_ref().map(|(path, offset)| json!({"path": path, "offset": offset})),
        "segments": segments, "snapshots": snapshots, "frames": lost.frames, "records": lost.records,
        "last_sequence": lost.last_sequence, "dropped": drops, "kept_beside": kept});
    Ok((value, text))
}
