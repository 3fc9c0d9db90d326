//! The `ringlane` command: `serve` runs a sidecar, `status` looks at one, `replay` reads a recording. A program of yours that adds
//! kernels to a sidecar has the same commands: its `main` calls [`run`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::administer::{self, AdminArguments};
use crate::board::BoardReader;
use crate::config::{Config, LogConfig, LogFormat, SYSTEM_CONFIG, Source};
use crate::control::Lifetime;
use crate::daemon::{SYSTEM_SOCKET, serve};
use crate::doctor::{examine, exit_code, findings_json, findings_text};
use crate::explain::{self, ExplainArguments};
use crate::journal::VoidRange;
use crate::kernels::door::Kernels;
use crate::log;
use crate::manual::write_manual;
use crate::replay::book::{self, BookArguments};
use crate::replay::command::{self, ReplayArguments};
use crate::replay::export::{self, ExportArguments};
use crate::replay::import::{self, ImportArguments};
use crate::segments::{self, JournalCommand};
use crate::status::{status, status_text};
use crate::top::top;
use clap::{CommandFactory, Parser, Subcommand};

/// One shared, crash-safe accelerator for all Python workers of a host.
#[derive(Parser)]
#[command(name = "ringlane", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Run a sidecar until SIGTERM. Exit code: 0 told to stop, 2 it needs a person, 101 it panicked and can be started anew.
    Serve {
        /// TOML file; what it does not say has defaults [default: /etc/ringlane/ringlane.toml, if it is there].
        #[arg(long)]
        config: Option<PathBuf>,
        /// Path of the control socket [default: the file's, else /run/ringlane/ringlane.sock].
        #[arg(long)]
        socket: Option<PathBuf>,
        /// Directory of the journal; wins over the file. Without one nothing is recorded.
        #[arg(long)]
        journal: Option<PathBuf>,
        /// Make these records void, one of which crashes the kernel: the error of the start that failed says which. They keep
        /// their sequence numbers, have no effect, and are answered with VOIDED; that is journaled, so this is said once.
        #[arg(long, value_name = "SEQ|FIRST-LAST")]
        skip: Option<VoidRange>,
        /// End with the last client instead of at a signal.
        #[arg(long)]
        embedded: bool,
    },
    /// Look at a configuration without running it.
    Config {
        #[command(subcommand)]
        command: ConfigCommands,
    },
    /// Say how a sidecar does, without asking it. Exit code: 0 healthy, 1 not healthy, 2 no sidecar.
    Status {
        /// Address of the sidecar [default: $RINGLANE_SOCKET, else the system's].
        #[arg(long)]
        address: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Watch a sidecar: throughput, times of stages, lanes by load. Keys: q quits, s sorts, / filters.
    Top {
        /// Address of the sidecar [default: $RINGLANE_SOCKET, else the system's].
        #[arg(long)]
        address: Option<String>,
        /// Time between two looks, milliseconds, 100 to 60,000.
        #[arg(long, default_value_t = 1000)]
        interval_ms: u64,
    },
    /// Look for what makes trouble: socket, permissions, limits, kernel, disk, versions; with a remedy for each finding. Exit
    /// code: 0 all fine, 1 doubts, 2 something does not work.
    Doctor {
        /// Address of the sidecar [default: $RINGLANE_SOCKET, else the system's].
        #[arg(long)]
        address: Option<String>,
        /// TOML file of the sidecar [default: /etc/ringlane/ringlane.toml, if it is there].
        #[arg(long)]
        config: Option<PathBuf>,
        /// Directory of the journal; wins over the file.
        #[arg(long)]
        journal: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Administer a running sidecar: limits, halts, cancels, lanes, instruments; each act is a record of its journal. Exit code: 0
    /// done, 1 refused, 2 no sidecar or no answer.
    Admin(AdminArguments),
    /// Live through recordings again: state hash, records, report. Exit code: 0 whole, 1 `--verify` found a difference, 2 torn,
    /// damaged or no recording.
    Replay(ReplayArguments),
    /// Look at a journal's files, check them, and make room.
    Journal {
        #[command(subcommand)]
        command: JournalCommand,
    },
    /// Show books, positions and open orders of a moment in a recording.
    Book(BookArguments),
    /// Write a recording's orders, results, events and trades as CSV, JSON lines, Parquet or numpy arrays.
    Export(ExportArguments),
    /// Make a recording of orders from elsewhere: a LOBSTER day, or CSV.
    Import(ImportArguments),
    /// Say what the numbers of reject codes and cancel reasons mean. Exit code: 0 known, 1 there is no such code.
    Explain(ExplainArguments),
    /// Write man pages and shell completions (bash, fish, zsh) to a directory.
    Manual {
        /// Where they go; made if need be.
        directory: PathBuf,
    },
}

#[derive(Subcommand)]
enum ConfigCommands {
    /// Say whether a file would be accepted; an error names the line, and the valid key that is nearest to one that is not
    /// known. Exit code: 0 accepted, 2 not.
    Check {
        /// TOML file.
        #[arg(default_value = SYSTEM_CONFIG)]
        path: PathBuf,
    },
}

/// Does what the command line says, with these kernels beside that of orders.
#[must_use]
pub fn run(kernels: Kernels) -> ExitCode {
    let command = Arguments::parse().command;
    // A sidecar's log is as its configuration says; every other command talks to a person.
    let is_serve = matches!(command, Subcommands::Serve { .. });
    let log = if is_serve { Ok(()) } else { log::start(&LogConfig { format: LogFormat::Human, level: None }) };
    let outcome = log.and_then(|()| match command {
        Subcommands::Serve { config, socket, journal, skip, embedded } => {
            run_serve(Source { path: config, socket, journal, skip }, embedded, kernels)
        }
        Subcommands::Config { command: ConfigCommands::Check { path } } => run_config_check(&path),
        Subcommands::Status { address, json } => run_status(address, json),
        Subcommands::Top { address, interval_ms } => top(&address_of(address), interval_ms).map(|()| ExitCode::SUCCESS),
        Subcommands::Doctor { address, config, journal, json } => run_doctor(address, config, journal, json),
        Subcommands::Admin(arguments) => Ok(administer::run(&arguments, address_of)),
        Subcommands::Replay(arguments) => command::run(&arguments),
        Subcommands::Journal { command } => segments::run(&command),
        Subcommands::Book(arguments) => book::run(&arguments),
        Subcommands::Export(arguments) => export::run(&arguments),
        Subcommands::Import(arguments) => import::run(&arguments),
        Subcommands::Explain(arguments) => explain::run(&arguments),
        Subcommands::Manual { directory } => write_manual(Arguments::command(), &directory).map(|()| ExitCode::SUCCESS),
    });
    outcome.unwrap_or_else(|words| {
        eprintln!("ringlane: {words}");
        ExitCode::from(2)
    })
}

fn run_serve(source: Source, embedded: bool, kernels: Kernels) -> Result<ExitCode, String> {
    // A private sidecar is its client's, and nothing of the system's service is meant for it.
    let system = (!embedded).then(|| PathBuf::from(SYSTEM_CONFIG)).filter(|path| path.exists());
    let path = source.path.clone().or(system);
    let config = Config::load(Source { path, ..source })?;
    log::start(&config.log)?;
    serve(config, if embedded { Lifetime::Embedded } else { Lifetime::Service }, kernels)?;
    Ok(ExitCode::SUCCESS)
}

fn run_config_check(path: &Path) -> Result<ExitCode, String> {
    let config = Config::read(path)?;
    let rules = config.access.rules.len();
    let access = if rules == 0 { "no access rules: everybody may do everything".into() } else { format!("{rules} access rules") };
    println!("{}: accepted ({access})", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The address that is meant.
fn address_of(given: Option<String>) -> String {
    given.or_else(|| std::env::var("RINGLANE_SOCKET").ok()).unwrap_or_else(|| SYSTEM_SOCKET.into())
}

fn run_doctor(address: Option<String>, path: Option<PathBuf>, journal: Option<PathBuf>, as_json: bool) -> Result<ExitCode, String> {
    let path = path.or_else(|| Some(PathBuf::from(SYSTEM_CONFIG)).filter(|path| path.exists()));
    let config = path.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    let configured = config.socket.map(|socket| socket.to_string_lossy().into_owned());
    let findings = examine(&address_of(address.or(configured)), journal.or(config.journal.directory).as_deref());
    if as_json {
        println!("{:#}", findings_json(&findings));
    } else {
        print!("{}", findings_text(&findings));
    }
    Ok(ExitCode::from(exit_code(&findings)))
}

fn run_status(address: Option<String>, as_json: bool) -> Result<ExitCode, String> {
    let status = status(&BoardReader::open(&address_of(address))?);
    if as_json {
        println!("{status:#}");
    } else {
        print!("{}", status_text(&status));
    }
    Ok(if status["health"] == "healthy" { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
