//! The directory of one run, and what a killed client left behind.
//!
//! `<store>/run/<id>/` holds mount points, the overlay's upper layer, the runtime's bundle and its state. Its owner
//! holds a lock on it for as long as it lives, so a process that gets it knows that the owner is dead. The next run
//! kills the rest of the container and removes the directory. Mounts need no sweeping: they are in the owner's mount
//! namespace and ended with it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::{RUNC, RunError};

/// The lock file of a run, and of the directory of all runs.
const LOCK: &str = "lock";

/// The directory of a run of ours.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    id: String,
    /// Held until the end; the kernel lets go of it however we end.
    _lock: File,
}

impl RunDir {
    /// Makes a fresh directory below `store` and sweeps what dead runs left.
    ///
    /// # Errors
    /// If the directory cannot be made. What cannot be swept is left for the next run.
    pub fn create(store: &Path) -> Result<Self, RunError> {
        let runs = store.join("run");
        make_dir(&runs)?;
        // Between making a directory and locking it, a sweeper must not take it for a dead one.
        let guard = open_lock(&runs)
            .and_then(|file| flock(&file, FlockOperation::LockExclusive).map(|()| file).map_err(io::Error::from));
        let guard = guard.map_err(|source| RunError::io("lock", &runs, source))?;
        let dead = dead_runs(&runs);
        let id = fresh_id()?;
        let path = runs.join(&id);
        make_dir(&path)?;
        let lock = open_lock(&path).and_then(|file| try_lock(&file).map(|_| file));
        let lock = lock.map_err(|source| RunError::io("lock", &path, source))?;
        drop(guard);
        for (path, _lock) in dead {
            remove(&path);
        }
        let run = Self { path, id, _lock: lock };
        for part in [run.image(), run.rootfs(), run.upper(), run.work(), run.bundle(), run.state()] {
            make_dir(&part)?;
        }
        Ok(run)
    }

    /// The container's id: unique on this machine, since control groups are named by it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the image is mounted.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.path.join("image")
    }

    /// Where the container's root file system is mounted.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// What the container writes.
    #[must_use]
    pub fn upper(&self) -> PathBuf {
        self.path.join("upper")
    }

    /// Overlayfs' own.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path.join("work")
    }

    /// The runtime's bundle, with `config.json`.
    #[must_use]
    pub fn bundle(&self) -> PathBuf {
        self.path.join("bundle")
    }

    /// The runtime's state.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        state(&self.path)
    }

    /// A file of this run's own.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Ends what is left of the container and removes the directory. Nothing may be mounted below it any more.
    pub fn close(self) {
        remove(&self.path);
    }
}

fn state(run: &Path) -> PathBuf {
    run.join("runc")
}

/// Finds the runs whose owner is dead, and holds their locks so that nobody else sweeps them.
fn dead_runs(runs: &Path) -> Vec<(PathBuf, File)> {
    let Ok(entries) = fs::read_dir(runs) else { return Vec::new() };
    let directories = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    let dead = directories.filter_map(|path| {
        let lock = open_lock(&path).ok()?;
        try_lock(&lock).ok().filter(|locked| *locked)?;
        Some((path, lock))
    });
    dead.collect()
}

/// Kills a container that outlived its client and removes its directory. Best effort: what stays is tried again by
/// the next run.
fn remove(run: &Path) {
    let state = state(run);
    for container in fs::read_dir(&state).into_iter().flatten().flatten() {
        let mut delete = Command::new(RUNC);
        delete.arg("--root").arg(&state).args(["delete", "--force"]).arg(container.file_name());
        let _done = delete.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
    let _removed = fs::remove_dir_all(run);
}

fn fresh_id() -> Result<String, RunError> {
    let mut random = [0_u8; 6];
    getrandom(&mut random, GetRandomFlags::empty())
        .map_err(|source| RunError::io("read random bytes for", Path::new("the container's id"), source.into()))?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("dimsum-{digits}"))
}

/// Makes a directory that only its owner enters: it leads to the image's setuid files.
fn make_dir(path: &Path) -> Result<(), RunError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| RunError::io("make the directory", path, source))
}

fn open_lock(directory: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(directory.join(LOCK))
}

/// Takes the lock if nobody has it.
fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_run_stays_and_a_dead_one_is_swept() {
        let store = tempfile::tempdir().unwrap();
        let living = RunDir::create(store.path()).unwrap();
        let dead = RunDir::create(store.path()).unwrap();
        let dead_path = dead.path.clone();
        fs::write(dead.upper().join("file"), "x").unwrap();
        // Without close(): the owner ended with no chance to do anything.
        drop(dead);
        assert!(dead_path.exists());
        let next = RunDir::create(store.path()).unwrap();
        assert!(!dead_path.exists());
        assert!(living.path.exists() && next.path.exists());
        let next_path = next.path.clone();
        next.close();
        assert!(!next_path.exists());
    }
}
