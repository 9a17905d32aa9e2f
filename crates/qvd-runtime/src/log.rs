//! Logs: one line an event, to a file, the console or both, by the manual's `log.*` keys.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::prelude::*;

use crate::config::{ConfigError, Values};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A `log.*` value is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log file cannot be opened.
    #[error("cannot open log file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Logging was set up before.
    #[error("logging is already set up")]
    Twice,
}

/// Starts logging by `log.preset`, the threshold of `level_key` (`log.level`, `api.log.level`) and the file named by
/// `file_key` (`log.filename`, `log.api.filename`). `foreground` adds the console.
pub fn init(values: &Values, file_key: &str, level_key: &str, foreground: bool) -> Result<(), LogError> {
    let level = level(&values.text(level_key)?);
    let preset = values.text("log.preset")?;
    let path = values.path(file_key)?;
    let file = open(&path).map_err(|source| LogError::File { path: path.display().to_string(), source })?;
    let file_layer =
        tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(Mutex::new(file));
    let console: Option<BoxMakeWriter> = match preset.as_str() {
        "stdout" => Some(BoxMakeWriter::new(std::io::stdout)),
        "stderr" => Some(BoxMakeWriter::new(std::io::stderr)),
        _ if foreground => Some(BoxMakeWriter::new(std::io::stderr)),
        _ => None,
    };
    let console =
        console.map(|w| tracing_subscriber::fmt::layer().with_ansi(false).with_target(false).with_writer(w));
    tracing_subscriber::registry()
        .with(level)
        .with(file_layer)
        .with(console)
        .try_init()
        .map_err(|_| LogError::Twice)
}

fn level(word: &str) -> LevelFilter {
    match word.to_ascii_uppercase().as_str() {
        "ALL" | "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "WARN" => LevelFilter::WARN,
        "ERROR" | "FATAL" => LevelFilter::ERROR,
        "OFF" => LevelFilter::OFF,
        _ => LevelFilter::INFO,
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}
