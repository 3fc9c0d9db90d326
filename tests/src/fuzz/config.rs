//! Whatever stands in a configuration file is accepted, or refused with the number of a line that the file has.

use ringlane_sidecar::config::Config;
use ringlane_sidecar::control::Policy;

use super::Target;

/// The target.
pub const TARGET: Target = Target { name: "config", run, seeds };

fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    match Config::parse(&text) {
        Ok(config) => {
            // A user or group that this host does not have is told by name.
            if let Err(words) = Policy::new(&config.access) {
                assert!(!words.is_empty());
            }
            for record in config.orders.instrument_records() {
                ringlane_sidecar::engine::Engine::new(0).add_instrument(&record).map_or_else(
                    |words| assert!(record.symbol > 1, "the engine refuses what the configuration took: {words}"),
                    |()| assert_eq!(record.symbol, 1),
                );
            }
        }
        Err(words) => {
            let (line, _) = words.split_once(':').expect("LINE: WORDS");
            let line: usize = line.parse().expect("the line is a number");
            assert!((1..=1 + text.matches('\n').count()).contains(&line), "{words}");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let packaged = include_str!("../../../systemd/ringlane.toml");
    let all = "[access]\nsocket_mode = \"660\"\n[[access.rules]]\nuids = [1]\naccounts = [[1, 9]]\nkernels = [\"orders\"]\n\
        [[orders.instruments]]\nname = \"A\"\ntick = 5\n[[orders.accounts]]\nfirst = 1\nlast = 9\nposition_max = 10\n";
    // The defaults that are told behind a #, as if they were set.
    let set = packaged.lines().map(|line| if line.contains(" = ") { line.trim_start_matches("# ") } else { line }).collect::<Vec<_>>();
    vec![packaged.into(), set.join("\n").into(), all.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_are_accepted() {
        for seed in seeds() {
            let text = String::from_utf8(seed).expect("text");
            Config::parse(&text).unwrap_or_else(|words| panic!("{words}\n{text}"));
        }
    }
}
