//! `kill -9` of the server under cold reads.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::{CaseLog, FuseMount};
use crate::corpus::layout::CorpusLayout;
use crate::demo::drop_caches;
use crate::dimsum::Dimsum;
use crate::tree;

const KILLS: u64 = 50;
/// Longest wait for a request in flight before a kill, and for the end of all.
const PATIENCE: Duration = Duration::from_secs(120);
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

pub fn server(dimsum: &Dimsum, image: &CorpusLayout, scratch: &Path, log: &mut CaseLog) -> Result<()> {
    let fusectl = FuseControl::new()?;
    let mount = scratch.join("mount");
    let mounted = FuseMount::new(dimsum, image, &mount)?;
    let reference = tree::from_directory(&mounted.path)?;
    let files: Vec<&tree::ListedEntry> = reference.iter().filter(|entry| entry.kind == 'f' && entry.size > 0).collect();
    let (stop, right, wrong, refused) =
        (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let connection = fusectl.connection_of(&mounted.path)?;
    let mut waiting_seen = Vec::new();
    std::thread::scope(|scope| -> Result<()> {
        for reader in 0..4 {
            let (files, stop, root) = (&files, &stop, &mounted.path);
            let (right, wrong, refused) = (&right, &wrong, &refused);
            scope.spawn(move || {
                let mut next = reader * 7919;
                while !stop.load(Ordering::Relaxed) {
                    let entry = files[next % files.len()];
                    next += 104_729;
                    match tree::sha256_of(root, &entry.path) {
                        Ok(digest) if digest == entry.sha256 => right.fetch_add(1, Ordering::Relaxed),
                        Ok(_) => wrong.fetch_add(1, Ordering::Relaxed),
                        Err(_) => refused.fetch_add(1, Ordering::Relaxed),
                    };
                }
            });
        }
        let result: Result<()> = (0..KILLS).try_for_each(|_| {
            drop_caches()?;
            waiting_seen.push(kill_with_a_request_in_flight(dimsum, &fusectl, connection)?);
            Ok(())
        });
        // Readers must go on after the last kill too.
        let before = right.load(Ordering::Relaxed);
        let started = Instant::now();
        while result.is_ok() && right.load(Ordering::Relaxed) < before + 20 && started.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        result?;
        ensure!(right.load(Ordering::Relaxed) >= before + 20, "readers stopped after the last kill");
        Ok(())
    })?;
    let (right, wrong, refused) = (right.into_inner(), wrong.into_inner(), refused.into_inner());
    log.case(
        &json!({"where": "server", "kind": "kill -9", "kills": KILLS, "waiting just before each kill": waiting_seen,
        "right": right, "refused": refused, "wrong": wrong}),
    )?;
    ensure!(refused == 0, "{refused} reads failed");
    Ok(())
}

/// Kills the server when the kernel waits for an answer; returns how many requests it waited for.
fn kill_with_a_request_in_flight(dimsum: &Dimsum, fusectl: &FuseControl, connection: u64) -> Result<u64> {
    let pid = server_pid(dimsum)?;
    let started = Instant::now();
    loop {
        let waiting = fusectl.waiting(connection)?;
        if waiting > 0 {
            let status = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
            ensure!(status.success(), "kill -9 {pid}: {status}");
            return Ok(waiting);
        }
        ensure!(started.elapsed() < PATIENCE, "no request in flight");
    }
}

fn server_pid(dimsum: &Dimsum) -> Result<u64> {
    dimsum.info()?["server"]["pid"].as_u64().context("info has no server.pid")
}

/// The kernel's own count of unanswered requests; mounted for the time of the value if it was not.
struct FuseControl {
    ours: bool,
}

impl FuseControl {
    fn new() -> Result<Self> {
        let mounted = fs::read_to_string("/proc/mounts")?.lines().any(|line| line.contains(CONNECTIONS));
        if !mounted {
            let status = Command::new("mount").args(["-t", "fusectl", "fusectl", CONNECTIONS]).status()?;
            ensure!(status.success(), "mounting fusectl: {status}");
        }
        Ok(Self { ours: !mounted })
    }

    /// The connection's name is the minor number of the mount's device.
    fn connection_of(&self, mount: &Path) -> Result<u64> {
        let device = std::os::unix::fs::MetadataExt::dev(&fs::metadata(mount)?);
        Ok(u64::from(rustix::fs::minor(device)))
    }

    fn waiting(&self, connection: u64) -> Result<u64> {
        let text = fs::read_to_string(format!("{CONNECTIONS}/{connection}/waiting"))?;
        Ok(text.trim().parse()?)
    }
}

impl Drop for FuseControl {
    fn drop(&mut self) {
        if self.ours
            && let Err(error) = Command::new("umount").arg(CONNECTIONS).status()
        {
            eprintln!("umount {CONNECTIONS}: {error}");
        }
    }
}
