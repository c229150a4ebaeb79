//! `dimsum info`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use dimsum_engine::container::RUNC;
use dimsum_engine::container::check_privileges;
use dimsum_node::{FillStatus, MountInfo, ServerInfo};
use serde::Serialize;

use crate::context::Context;
use crate::error::Error;
use crate::node::client;
use crate::output::{Report, Size, Tame};

/// Show kernel, drivers and why one is missing, store, server, and mounts with their counters
#[derive(Debug, Args)]
pub struct Info {}

impl Info {
    /// Looks and prints.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        context.output.write(&NodeInfo::look(context)?)
    }
}

#[derive(Serialize)]
struct NodeInfo {
    version: &'static str,
    kernel: String,
    privileges: Privileges,
    drivers: Vec<Driver>,
    overlay: bool,
    runtime: Option<String>,
    store: StoreInfo,
    server: Option<ServerInfo>,
    mounts: Vec<MountInfo>,
}

#[derive(Serialize)]
struct Privileges {
    uid: u32,
    /// Whether this process may mount: the capability SYS_ADMIN.
    may_mount: bool,
}

#[derive(Serialize)]
struct Driver {
    name: &'static str,
    available: bool,
    /// Why not, or what it lacks here.
    reason: Option<String>,
}

#[derive(Serialize)]
struct StoreInfo {
    path: PathBuf,
    exists: bool,
    free_bytes: Option<u64>,
    node_key: PathBuf,
    node_key_exists: bool,
}

impl NodeInfo {
    fn look(context: &Context) -> Result<Self, Error> {
        let exists = context.engine.config().store.is_dir();
        // Looking must not make a store.
        let (server, mounts) = if exists {
            let client = client(context)?;
            let store = context.engine.config().store.display().to_string();
            (client.info().map_err(Error::node(&*store))?, client.mounts().map_err(Error::node(&*store))?)
        } else {
            (None, Vec::new())
        };
        let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
        let may_mount = check_privileges().is_ok();
        let free = rustix::fs::statvfs(&context.engine.config().store).ok();
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            drivers: vec![fuse(&kernel, may_mount), erofs()],
            kernel,
            privileges: Privileges { uid: rustix::process::geteuid().as_raw(), may_mount },
            overlay: kernel_has("overlay"),
            runtime: runtime(),
            store: StoreInfo {
                path: context.engine.config().store.clone(),
                exists,
                free_bytes: free.map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
                node_key: context.engine.config().node_key.clone(),
                node_key_exists: context.engine.config().node_key.is_file(),
            },
            server,
            mounts,
        })
    }
}

fn fuse(kernel: &str, may_mount: bool) -> Driver {
    let device = Path::new("/dev/fuse");
    let blocked = match File::options().read(true).write(true).open(device) {
        Err(error) => Some(format!("{}: {error}", device.display())),
        Ok(_) if !may_mount => Some("mounting needs root (CAP_SYS_ADMIN) in this version".to_owned()),
        Ok(_) => None,
    };
    let available = blocked.is_none();
    let old = || {
        let old = version(kernel).is_some_and(|version| version < (6, 9));
        old.then(|| "requests under way are not taken over if the server dies: that needs Linux 6.9".to_owned())
    };
    Driver { name: dimsum_node::DriverKind::Fuse.name(), available, reason: blocked.or_else(old) }
}

fn erofs() -> Driver {
    let kernel = if kernel_has("erofs") { "the kernel has it" } else { "the kernel does not have it, or not loaded" };
    Driver { name: "erofs", available: false, reason: Some(format!("not in this version of dimsum ({kernel})")) }
}

/// Whether the kernel has a file system, built in or loaded.
fn kernel_has(file_system: &str) -> bool {
    let listed = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    listed.lines().any(|line| line.split_ascii_whitespace().last() == Some(file_system))
}

/// Returns major and minor of a kernel release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Returns the first line of what the container runtime says of itself; none if there is none.
fn runtime() -> Option<String> {
    let output = Command::new(RUNC).arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned)
}

impl Report for NodeInfo {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        let yes = |yes: bool| if yes { "yes" } else { "no" };
        writeln!(out, "dimsum     {}", self.version)?;
        writeln!(out, "kernel     {}, overlayfs: {}", self.kernel, yes(self.overlay))?;
        writeln!(out, "user       {}, may mount: {}", self.privileges.uid, yes(self.privileges.may_mount))?;
        for Driver { name, available, reason } in &self.drivers {
            let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let available = if *available { "available" } else { "not available" };
            writeln!(out, "driver     {name} {available}{reason}")?;
        }
        writeln!(out, "runtime    {}", self.runtime.as_deref().unwrap_or("runc is not installed"))?;
        let StoreInfo { path, exists, free_bytes, node_key, node_key_exists } = &self.store;
        let free = free_bytes.map(|bytes| format!(", {} free", Size(bytes))).unwrap_or_default();
        let made = if *exists { "" } else { " (not made yet)" };
        writeln!(out, "store      {}{made}{free}", path.display())?;
        let made = if *node_key_exists { "" } else { " (not made yet)" };
        writeln!(out, "node key   {}{made}", node_key.display())?;
        match &self.server {
            None => writeln!(out, "server     not running")?,
            Some(server) => {
                let ServerInfo { pid, version, mounts, opening, fuse_threads, seconds, .. } = server;
                writeln!(
                    out,
                    "server     process {pid}, version {version}, {mounts} mounts, {opening} being opened, {fuse_threads} \
                     threads, since {seconds} s"
                )?;
                let role =
                    if server.is_owner { "writes the store" } else { "reads only: another process writes the store" };
                writeln!(out, "           {role}{}", if server.closing { "; is ending" } else { "" })?;
            }
        }
        for mount in &self.mounts {
            let stats = &mount.stats;
            let (name, target) = (Tame(&mount.reference), Tame(&mount.target));
            writeln!(out, "mount {:<4} {name} on {target} ({})", mount.id, mount.driver)?;
            writeln!(out, "           {}", mount.image)?;
            if let Some(broken) = &mount.broken {
                writeln!(out, "           broken: {}", Tame(broken))?;
            }
            if let Some(fill) = fill_text(&mount.fill) {
                writeln!(out, "           {fill}")?;
            }
            let (read, fetched) = (Size(stats.driver.bytes_read), Size(stats.image.bytes_fetched));
            let (chunks, groups) = (stats.image.chunks_verified, stats.image.groups_verified);
            writeln!(out, "           read {read}, fetched {fetched}, verified {chunks} chunks and {groups} groups")?;
            let (damage, repairs, errors) = (stats.image.damage, stats.image.repairs, stats.driver.errors);
            writeln!(
                out,
                "           damage {damage}, repaired {repairs}, failed reads {errors}, waiting {}",
                stats.session.parked
            )?;
        }
        Ok(())
    }
}

/// Returns how the fill of a mount stands; nothing if nobody asked for one.
fn fill_text(fill: &FillStatus) -> Option<String> {
    Some(match fill {
        FillStatus::Waiting { reason } if reason.is_empty() => "fill: waits for the image".to_owned(),
        FillStatus::Waiting { reason } => format!("fill: waits for the image: {}", Tame(reason)),
        FillStatus::Running { done, total } => format!("fill: {} of {} here", Size(*done), Size(*total)),
        FillStatus::Failed { reason, retry_seconds } => {
            format!("fill: stopped, goes on in {retry_seconds} s: {}", Tame(reason))
        }
        FillStatus::Done => "fill: complete".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_release_has_two_numbers_that_matter() {
        assert_eq!(version("6.18.44-fc-v782"), Some((6, 18)));
        assert_eq!(version("5.15.0-1"), Some((5, 15)));
        assert_eq!(version("6"), None);
        assert_eq!(version(""), None);
    }
}
