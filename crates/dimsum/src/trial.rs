//! One run of a command from an empty store, to measure the bytes that it touches. It is `dimsum run` as a child, as
//! users run it.

use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use dimsum_engine::container::check_privileges;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::context::Context;
use crate::error::Error;
use crate::node;
use crate::signals::Interrupts;
use dimsum_engine::estimate::{Estimation, MeasuredRun, TrialRun};
use dimsum_engine::{CancelReason, EngineError};

/// Stays right when the file is replaced by an upgrade.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// A command to run, and how.
#[derive(Debug)]
pub struct Trial<'a> {
    /// Options of `run`.
    pub options: Vec<String>,
    /// The command.
    pub command: &'a [String],
}

/// Says no before anything is converted, where a run would fail for want of rights.
///
/// # Errors
/// If this process may not mount.
pub fn allowed(image: &str) -> Result<(), Error> {
    check_privileges().map_err(|source| Error::Run { object: image.to_owned(), source: Box::new(source) })
}

impl Trial<'_> {
    /// Runs it. What the command prints goes to standard error.
    ///
    /// # Errors
    /// If it cannot be started, or a signal asked to end.
    pub fn run(&self, context: &Context, estimation: &Estimation, interrupts: &Interrupts) -> Result<TrialRun, Error> {
        let scratch = Context { engine: estimation.engine().clone(), ..context.clone() };
        let (image, report) = (estimation.image(), estimation.path("report.json"));
        let started = Command::new(THIS_PROGRAM)
            .arg("run")
            .arg("--store")
            .arg(&scratch.engine.config().store)
            .arg("--node-key")
            .arg(&scratch.engine.config().node_key)
            .arg(format!("--report={}", report.display()))
            .args(context.output.is_json().then_some("--format=json"))
            .args(&self.options)
            .arg(&image)
            .args(self.command)
            .stdin(Stdio::null())
            .stdout(std::io::stderr())
            .spawn();
        let child = started.map_err(|source| Error::io("start a run with", &PathBuf::from(THIS_PROGRAM), source))?;
        let waited = wait(child, interrupts);
        end_server(&scratch);
        let (status, signal) = waited.map_err(|source| Error::io("wait for", &PathBuf::from("the run"), source))?;
        if let Some(signal) = signal {
            return Err(EngineError::Cancelled { reason: CancelReason::Signal(signal.as_raw()) }.into());
        }
        let text =
            std::fs::read(&report).map_err(|_| match status.code().and_then(|code| u8::try_from(code).ok()) {
                Some(status) if status != 0 => Error::Said { status },
                _ => {
                    let source = std::io::Error::other(format!("`dimsum run` ended without a report ({status})"));
                    Error::io("run the command in", &PathBuf::from(&image), source)
                }
            })?;
        let report: Value = serde_json::from_slice(&text)
            .map_err(|error| Error::io("read the report of", &PathBuf::from("the run"), error.into()))?;
        Ok(trial_run(&report))
    }
}

/// Takes the figures out of the report.
fn trial_run(report: &Value) -> TrialRun {
    let number = |key: &str| report.get(key).and_then(Value::as_u64).unwrap_or(0);
    let seconds = |key: &str| report.get(key).and_then(Value::as_f64);
    let to_exit = seconds("seconds_to_exit").unwrap_or(0.0);
    TrialRun {
        run: MeasuredRun {
            seconds: to_exit,
            seconds_to_exec: seconds("seconds_to_exec").unwrap_or(to_exit),
            requests: number("source_requests"),
            bytes: number("fetched_bytes"),
        },
        exit_status: number("exit_status"),
        chunks: number("chunks_verified"),
        read_bytes: number("read_bytes"),
    }
}

/// Waits for the child; a signal that asks us to end is passed on to it, and returned.
fn wait(mut child: Child, interrupts: &Interrupts) -> std::io::Result<(ExitStatus, Option<Signal>)> {
    let mut ended = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, ended));
        }
        let received = interrupts.next()?.signal;
        if [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM].contains(&received) {
            ended = Some(received);
            // It may have ended this moment.
            let _gone = kill_process(Pid::from_child(&child), received);
        }
    }
}

/// The server of the scratch store has nothing to wait for. If it cannot be told, it ends by itself.
fn end_server(context: &Context) {
    if let Ok(client) = node::client(context) {
        drop(client.shutdown());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_without_a_start_of_the_command_counts_no_time_for_it() {
        let report = serde_json::json!({ "exit_status": 3, "source_requests": 5, "fetched_bytes": 7, "seconds_to_exec": null, "seconds_to_exit": 1.5 });
        let seen = trial_run(&report);
        assert_eq!((seen.exit_status, seen.run.requests, seen.run.bytes), (3, 5, 7));
        assert_eq!(seen.run.seconds, seen.run.seconds_to_exec);
    }
}
