//! Man pages and shell completions, generated from the command line's own definition, so that they cannot disagree with it.

use std::path::Path;

use clap::Command;
use clap_complete::{Shell, generate_to};

/// Shells that get completions.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

/// Writes `ringlane.1`, one page a subcommand, and a completion file a shell into `directory`, which is made if need be.
///
/// # Errors
/// When a file cannot be written; the words name the directory.
pub fn write_manual(mut command: Command, directory: &Path) -> Result<(), String> {
    let say = |error: std::io::Error| format!("cannot write the manual to {}: {error}", directory.display());
    std::fs::create_dir_all(directory).map_err(say)?;
    clap_mangen::generate_to(command.clone(), directory).map_err(say)?;
    let name = command.get_name().to_owned();
    for shell in SHELLS {
        generate_to(shell, &mut command, &name, directory).map_err(say)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_has_a_page_and_every_shell_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let command = Command::new("ringlane").version("1").subcommand(Command::new("serve").about("Run a sidecar"));
        write_manual(command, directory.path()).unwrap();
        for name in ["ringlane.1", "ringlane-serve.1", "ringlane.bash", "ringlane.fish", "_ringlane"] {
            let text = std::fs::read_to_string(directory.path().join(name)).unwrap();
            assert!(text.contains("serve"), "{name} names no subcommand");
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let words = write_manual(Command::new("ringlane"), Path::new("/proc/nothing/here")).unwrap_err();
        assert!(words.starts_with("cannot write the manual to /proc/nothing/here: "), "{words}");
    }
}
