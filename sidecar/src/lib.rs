//! The Ringlane sidecar as a library: each module is one room of the design, and `kernels` is usable on its own.

pub mod administer;
mod amendments;
pub mod board;
pub mod config;
pub mod configured;
pub mod control;
mod cores;
pub mod corpora;
pub mod crash;
mod culprit;
pub mod daemon;
pub mod doctor;
pub mod engine;
pub mod explain;
#[cfg(feature = "https")]
mod https;
pub mod image;
pub mod jobs;
pub mod journal;
pub mod kernels;
pub mod lanes;
pub mod log;
pub mod manual;
pub mod market;
pub mod metrics;
pub mod program;
pub mod ranges;
pub mod recovery;
pub mod replay;
#[cfg(feature = "sentry")]
pub mod reports;
pub mod rules;
pub mod section;
pub mod segments;
pub mod sequencer;
pub mod service;
pub mod status;
pub mod top;
#[cfg(feature = "otel")]
pub mod traces;
pub mod world;
