//! Wall, CPU and peak memory of a child, by GNU time.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredTimes {
    pub wall: f64,
    pub cpu: f64,
    pub peak_kib: u64,
}

impl MeasuredTimes {
    /// What both took, one after the other.
    pub fn then(self, next: Self) -> Self {
        Self { wall: self.wall + next.wall, cpu: self.cpu + next.cpu, peak_kib: self.peak_kib.max(next.peak_kib) }
    }

    pub fn line(&self) -> Value {
        json!({"wall_s": self.wall, "cpu_s": self.cpu, "peak_kib": self.peak_kib})
    }
}

/// Runs a command that must succeed; returns what it took and what it printed.
pub fn time(command: &Command) -> Result<(MeasuredTimes, Vec<u8>)> {
    let report = tempfile::NamedTempFile::new()?;
    let mut timed = Command::new("time");
    timed.args(["-f", "%e %U %S %M", "-o"]).arg(report.path()).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        timed.env(key, value.unwrap_or(OsStr::new("")));
    }
    let output = timed.stdin(Stdio::null()).output().context("GNU time; apt-get install time")?;
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(report.path())?;
    let fields: Vec<f64> =
        text.split_whitespace().map(str::parse).collect::<Result<_, _>>().context("output of time")?;
    let [wall, user, system, peak] = fields[..] else { anyhow::bail!("output of time: {text}") };
    Ok((MeasuredTimes { wall, cpu: user + system, peak_kib: peak as u64 }, output.stdout))
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
