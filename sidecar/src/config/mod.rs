//! The sidecar's configuration: what stands in the TOML file, its defaults, and what is wrong with it in words. One file a table.
//! Whatever decides a result is journaled as records, and replay never comes here. `[access]`, `[lanes]` and the level
//! of `[log]` are read again on SIGHUP, everything else at start only.

mod access;
mod diagnosis;
mod jobs;
mod journal;
mod log;
mod market_data;
mod metrics;
mod orders;
mod sentry;
mod sequencer;
mod snapshots;
mod traces;
mod vectors;

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::journal::VoidRange;

pub use access::{AccessConfig, AccessRule};
pub use diagnosis::Wrong;
pub use jobs::JobsConfig;
pub use journal::{Durability, JournalConfig};
pub use log::{LogConfig, LogFormat};
pub use market_data::MarketDataConfig;
pub use metrics::MetricsConfig;
pub use orders::{AccountsConfig, InstrumentConfig, OrdersConfig};
pub use sentry::{Dsn, SentryConfig};
pub use sequencer::{LanesConfig, SequencerConfig};
pub use snapshots::SnapshotsConfig;
pub use traces::TracesConfig;
pub use vectors::VectorsConfig;

/// Where the system-wide sidecar's configuration is, if there is one.
pub const SYSTEM_CONFIG: &str = "/etc/ringlane/ringlane.toml";

/// The whole configuration. Unknown keys are errors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it was read.
    #[serde(skip)]
    pub source: Source,
    /// Path of the control socket.
    pub socket: Option<PathBuf>,
    /// Who may do what.
    pub access: AccessConfig,
    /// The recording.
    pub journal: JournalConfig,
    /// Snapshots of the state.
    pub snapshots: SnapshotsConfig,
    /// How the sequencer waits and where it runs.
    pub sequencer: SequencerConfig,
    /// What lanes may cost.
    pub lanes: LanesConfig,
    /// What is told in which form.
    pub log: LogConfig,
    /// Where spans go.
    pub traces: TracesConfig,
    /// Where errors are reported.
    pub sentry: SentryConfig,
    /// Where metrics can be scraped.
    pub metrics: MetricsConfig,
    /// The order kernel.
    pub orders: OrdersConfig,
    /// The broadcast of market data.
    pub market_data: MarketDataConfig,
    /// The threads of other kernels.
    pub jobs: JobsConfig,
    /// Vectors and their corpora.
    pub vectors: VectorsConfig,
}

/// Takes the scheme off the address of a receiver of spans or reports: `http://` or `https://`, and what follows it.
fn scheme_of(address: &str) -> Option<(&'static str, &str)> {
    let split = |scheme: &'static str| Some((scheme, address.strip_prefix(scheme)?));
    ["http://", "https://"].into_iter().find_map(split).filter(|(_, rest)| !rest.is_empty())
}

/// Where a configuration comes from: a file, and what the command line says instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The file; none: defaults.
    pub path: Option<PathBuf>,
    /// Path of the control socket.
    pub socket: Option<PathBuf>,
    /// Directory of the journal.
    pub journal: Option<PathBuf>,
    /// Records that crash the kernel and are to be made void.
    pub skip: Option<VoidRange>,
}

impl Config {
    /// Reads what `source` names; what it says itself wins over the file.
    pub fn load(source: Source) -> Result<Self, String> {
        let mut config = source.path.as_deref().map_or_else(|| Ok(Self::default()), Self::read)?;
        config.socket = source.socket.clone().or(config.socket);
        config.journal.directory = source.journal.clone().or(config.journal.directory);
        config.source = source;
        Ok(config)
    }

    /// Reads a TOML file. An error names the file, the line, what is wrong, and the key that was probably meant.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Self::parse(&text).map_err(|words| format!("{}:{words}", path.display()))
    }

    /// Reads TOML text. An error begins with its line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| diagnosis::of_syntax(text, &error))?;
        config.check().map_err(|wrong| wrong.at_line(text))?;
        Ok(config)
    }

    /// Hash of everything that is configured, defaults included; it tells whether two sidecars of one version have the same
    /// configuration, and says nothing of what that is.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let apart_from_its_place = Self { source: Source::default(), ..self.clone() };
        xxhash_rust::xxh3::xxh3_64(format!("{apart_from_its_place:?}").as_bytes())
    }

    /// What types cannot say.
    fn check(&self) -> Result<(), Wrong> {
        self.journal.check()?;
        self.snapshots.check()?;
        self.sequencer.check()?;
        self.jobs.check()?;
        self.market_data.check()?;
        self.orders.check()?;
        self.metrics.check()?;
        self.traces.check()?;
        self.sentry.check()?;
        self.log.check()?;
        self.access.check()
    }

    /// Tables of which `other` says something else and which are read at start only.
    #[must_use]
    pub fn differs_at_start(&self, other: &Self) -> Vec<&'static str> {
        let tables = [
            ("socket", self.socket == other.socket),
            ("access.socket_mode", self.access.socket_mode == other.access.socket_mode),
            ("access.socket_group", self.access.socket_group == other.access.socket_group),
            ("[journal]", self.journal == other.journal),
            ("[snapshots]", self.snapshots == other.snapshots),
            ("[sequencer]", self.sequencer == other.sequencer),
            ("log.format", self.log.format == other.log.format),
            ("[traces]", self.traces == other.traces),
            ("[sentry]", self.sentry == other.sentry),
            ("[metrics]", self.metrics == other.metrics),
            ("[orders]", self.orders == other.orders),
            ("[jobs]", self.jobs == other.jobs),
            ("[market_data]", self.market_data == other.market_data),
            ("[vectors]", self.vectors == other.vectors),
        ];
        tables.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }
}
