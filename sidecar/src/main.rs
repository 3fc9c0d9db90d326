//! The `ringlane` command: `serve` runs a sidecar, `status` looks at one, `replay` reads a recording.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ringlane_sidecar::board::BoardReader;
use ringlane_sidecar::config::Config;
use ringlane_sidecar::control::Lifetime;
use ringlane_sidecar::daemon::{SYSTEM_SOCKET, serve};
use ringlane_sidecar::replay::book::{self, BookArguments};
use ringlane_sidecar::replay::command::{self, ReplayArguments};
use ringlane_sidecar::replay::export::{self, ExportArguments};
use ringlane_sidecar::status::{status, status_text};

/// One shared, crash-safe accelerator for all Python workers of a host.
#[derive(Parser)]
#[command(name = "ringlane", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Subcommand)]
enum Subcommands {
    /// Run a sidecar until SIGTERM.
    Serve {
        /// TOML file; what it does not say has defaults.
        #[arg(long)]
        config: Option<PathBuf>,
        /// Path of the control socket [default: the file's, else /run/ringlane/ringlane.sock].
        #[arg(long)]
        socket: Option<PathBuf>,
        /// Directory of the journal; wins over the file. Without one nothing is recorded.
        #[arg(long)]
        journal: Option<PathBuf>,
        /// End with the last client instead of at a signal.
        #[arg(long)]
        embedded: bool,
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
    /// Live through recordings again: state hash, records, report. Exit code: 0 whole, 1 `--verify` found a difference, 2 torn,
    /// damaged or no recording.
    Replay(ReplayArguments),
    /// Show books, positions and open orders of a moment in a recording.
    Book(BookArguments),
    /// Write a recording's orders, results, events and trades as CSV, JSON lines, Parquet or numpy arrays.
    Export(ExportArguments),
}

fn main() -> ExitCode {
    let level = tracing_subscriber::EnvFilter::try_from_env("RINGLANE_LOG").unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr).init();
    let outcome = match Arguments::parse().command {
        Subcommands::Serve { config, socket, journal, embedded } => run_serve(config.as_deref(), socket, journal, embedded),
        Subcommands::Status { address, json } => run_status(address, json),
        Subcommands::Replay(arguments) => command::run(&arguments),
        Subcommands::Book(arguments) => book::run(&arguments),
        Subcommands::Export(arguments) => export::run(&arguments),
    };
    outcome.unwrap_or_else(|words| {
        eprintln!("ringlane: {words}");
        ExitCode::from(2)
    })
}

fn run_serve(path: Option<&Path>, socket: Option<PathBuf>, journal: Option<PathBuf>, embedded: bool) -> Result<ExitCode, String> {
    let mut config = path.map_or_else(|| Ok(Config::default()), Config::read)?;
    config.socket = socket.or(config.socket);
    config.journal.directory = journal.or(config.journal.directory);
    serve(config, if embedded { Lifetime::Embedded } else { Lifetime::Service })?;
    Ok(ExitCode::SUCCESS)
}

fn run_status(address: Option<String>, as_json: bool) -> Result<ExitCode, String> {
    let address = address.or_else(|| std::env::var("RINGLANE_SOCKET").ok()).unwrap_or_else(|| SYSTEM_SOCKET.into());
    let status = status(&BoardReader::open(&address)?);
    if as_json {
        println!("{status:#}");
    } else {
        print!("{}", status_text(&status));
    }
    Ok(if status["health"] == "healthy" { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
