//! Whatever stands in a file that is to become a recording, the import ends in words, or in a recording that replays to the
//! state that the import came to.

use std::path::Path;

use clap::Parser;
use ringlane_sidecar::engine::Engine;
use ringlane_sidecar::replay::import::{ImportArguments, import};
use ringlane_sidecar::replay::replay;

use super::{Target, scratch};

/// Comma-separated values.
pub const CSV: Target = Target { name: "import_csv", run: csv, seeds: csv_seeds };
/// LOBSTER message files.
pub const LOBSTER: Target = Target { name: "import_lobster", run: lobster, seeds: lobster_seeds };

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    import: ImportArguments,
}

fn csv(bytes: &[u8]) {
    let directory = scratch(CSV.name);
    let config = directory.join("config.toml");
    std::fs::write(&config, "[journal]\nsegment_bytes = 1048576\nprefault_bytes = 65536\n").expect("room for a configuration");
    judge(&directory, "csv", "orders.csv", bytes, &["--config", config.to_str().expect("an ordinary path")]);
}

fn lobster(bytes: &[u8]) {
    judge(&scratch(LOBSTER.name), "lobster", "T_2012-06-21_34200000_57600000_message_1.csv", bytes, &[]);
}

fn judge(directory: &Path, source: &str, name: &str, bytes: &[u8], more: &[&str]) {
    let (file, out) = (directory.join(name), directory.join("out"));
    std::fs::write(&file, bytes).expect("room for the input");
    let _ = std::fs::remove_dir_all(&out);
    let paths = [&file, &out].map(|path| path.to_str().expect("an ordinary path"));
    let words = ["import", source, paths[0], "--out", paths[1]].into_iter().chain(more.iter().copied());
    match import(&Command::parse_from(words).import) {
        Ok(summary) => {
            let mut engine = Engine::new(3);
            engine.orders.tell_orphans();
            replay(&out, &mut engine, |_| {}).expect("what was imported can be replayed");
            assert_eq!(summary["state_hash"].as_str(), Some(&*format!("{:016x}", engine.orders.state_hash())));
        }
        // What the target itself brings along is right, or nothing of the input would be read.
        Err(words) => assert!(!words.is_empty() && !words.contains("config.toml"), "{words}"),
    }
}

fn csv_seeds() -> Vec<Vec<u8>> {
    let named = "op,side,symbol,account,client_order_id,price,quantity,order_type,time_in_force,lane,time_ns\n\
        NEW,BUY,1,1,1,100,10,LIMIT,GTC,1,5\nNEW,SELL,1,2,1,1.00,4,LIMIT,GTC,2,6\nCANCEL,,1,1,1,,,,,1,7\n";
    vec![named.into(), "\u{feff}symbol,op,account\n\"2\",\"1\",\"1\"\n".into()]
}

fn lobster_seeds() -> Vec<Vec<u8>> {
    let day = "34200.01,1,11,18,5853300,1\n34200.02,4,11,8,5853300,1\n34200.03,2,11,5,5853300,1\n34200.04,3,11,5,5853300,1\n\
        34200.05,4,12,9,5853400,-1\n34200.06,5,0,9,5853400,-1\n34200.07,7,0,0,-1,-1\n";
    vec![day.into(), "0.5,2,7,9223372036854775807,100,1\n0.6,2,7,9223372036854775807,100,1\n".into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_become_recordings() {
        for (target, source, name) in [(CSV, "csv", "orders.csv"), (LOBSTER, "lobster", "T_2012-06-21_34200000_57600000_message_1.csv")] {
            let directory = scratch(&format!("{}-seeds", target.name));
            let (file, out) = (directory.join(name), directory.join("out"));
            std::fs::write(&file, &(target.seeds)()[0]).expect("room for the seed");
            let words = ["import", source, file.to_str().expect("a path"), "--out", out.to_str().expect("a path")];
            let summary = import(&Command::parse_from(words).import).expect("a right file");
            assert!(summary["accepted"].as_u64().is_some_and(|accepted| accepted > 1), "{summary:?}");
            super::super::clean(&format!("{}-seeds", target.name));
        }
    }
}
