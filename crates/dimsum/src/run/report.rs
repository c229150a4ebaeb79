//! `run --report`: how little was read, that all of it was verified, and how long it took.

/// File of a run's directory where the runtime logs.
pub const RUNTIME_LOG: &str = "runc.log";
