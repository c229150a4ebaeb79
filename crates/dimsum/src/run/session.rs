//! One run from the mounted image to the exit status, and everything taken away again.

use std::fs;
use std::path::Path;

use dimsum_node::Client;
use dimsum_run::bind::Bind;
use dimsum_run::config::ProcessConfig;
use dimsum_run::container::{Forwarder, RUNTIME_LOG, exit_code};
use dimsum_run::dirs::RunDir;
use dimsum_run::process::{Overrides, command_line, environment, stop_signal, working_directory};
use dimsum_run::spec::Spec;
use dimsum_run::{RunError, identity, rootfs};

use super::report::{Clock, EXEC_TIME, RunReport};
use crate::commands::info::may_mount;
use crate::commands::mount::mount;
use crate::error::Error;
use crate::output::total;
use crate::signals::Interrupts;
use dimsum_engine::image::Located;

/// Files of the host that a container with the host's network gets a copy of.
const HOST_FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// What is run, and how.
#[derive(Debug)]
pub struct Session<'a> {
    /// The image.
    pub located: &'a Located,
    /// What its config says.
    pub config: ProcessConfig,
    /// What the user wants.
    pub overrides: Overrides,
    /// Another user than the image's.
    pub user: Option<String>,
    /// Whether the rest of the image is fetched behind the readers.
    pub fill: bool,
    /// Whether the container may only read its root file system.
    pub read_only: bool,
    /// Whether it has a network of its own, with nothing but loopback.
    pub own_network: bool,
    /// Directories and files of the host.
    pub binds: Vec<Bind>,
    /// The program that notes the time right before the command starts; only with a report.
    pub hook: Option<String>,
    /// The signals of this process.
    pub interrupts: Interrupts,
}

impl Session<'_> {
    /// Checks what can be checked before anything is mounted.
    ///
    /// # Errors
    /// If there is no command.
    pub fn check(&self) -> Result<(), RunError> {
        command_line(&self.config, &self.overrides).map(drop)
    }

    /// Runs the container. This thread leaves its mount namespace for good.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&self, client: &Client, clock: &Clock) -> Result<RunReport, Error> {
        let failed = |source| Error::Run { object: self.located.name(), source: Box::new(source) };
        if !may_mount() {
            return Err(failed(RunError::Privileges { source: std::io::ErrorKind::PermissionDenied.into() }));
        }
        // A server that has to be started first must not live in our mount namespace: it would keep it.
        client.connect_or_start().map_err(|source| self.node_error(source))?;
        rootfs::leave_mount_namespace().map_err(failed)?;
        let run = RunDir::create(client.store()).map_err(failed)?;
        let done = self.run_in(&run, client, clock);
        rootfs::unmount_all(&run);
        run.close();
        done
    }

    fn run_in(&self, run: &RunDir, client: &Client, clock: &Clock) -> Result<RunReport, Error> {
        let mut report = self.report(clock);
        let (handle, id) = mount(client, self.located, &run.image(), self.fill)?;
        handle.attach(&run.image()).map_err(|source| self.node_error(source))?;
        drop(handle);
        report.seconds_to_mount = clock.seconds();
        report.image_bytes = image_bytes(&run.image());
        let done = self.contain(run);
        report.seconds_to_exit = clock.seconds();
        report.seconds_to_exec = clock.noted(&run.file(EXEC_TIME));
        if let Ok(Some(info)) = client.mount_info(id) {
            report.count(&info.stats);
        }
        match (done, report.integrity()) {
            (Ok(status), _) => {
                report.exit_status = status;
                Ok(report)
            }
            (Err(source), Some(figures)) => {
                Err(Error::Unproven { object: self.located.name(), figures, source: Box::new(source) })
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Starts the container and returns the command's exit status.
    fn contain(&self, run: &RunDir) -> Result<u8, Error> {
        let failed = |source| Error::Run { object: self.located.name(), source: Box::new(source) };
        self.bundle(run).map_err(failed)?;
        rootfs::mount_overlay(run).map_err(failed)?;
        self.interrupts.check()?;
        let forwarder =
            Forwarder { signals: &self.interrupts, stop: stop_signal(&self.config), terminal: self.overrides.terminal };
        let status = exit_code(forwarder.run(run).map_err(failed)?);
        let not_started = (status != 0).then(|| start_failure(&run.file(RUNTIME_LOG))).flatten();
        Ok(not_started.unwrap_or(status))
    }

    fn node_error(&self, source: dimsum_node::Error) -> Error {
        Error::Node { object: self.located.name(), source: Box::new(source) }
    }

    fn report(&self, clock: &Clock) -> RunReport {
        let manifest = &self.located.manifest;
        RunReport {
            image: self.located.name(),
            digest: self.located.digest,
            converted_from: self.located.converted_from,
            driver: "fuse",
            exit_status: 0,
            image_bytes: 0,
            stored_bytes: total(manifest.packs.iter().chain([&manifest.meta]).map(|blob| blob.size)),
            fetched_bytes: 0,
            bridged_bytes: 0,
            filled_bytes: 0,
            shared_bytes: 0,
            shared_chunks: 0,
            source_requests: 0,
            fill_requests: 0,
            local_requests: 0,
            chunks_verified: 0,
            groups_verified: 0,
            read_bytes: 0,
            damage: 0,
            repairs: 0,
            source_failures: 0,
            errors: 0,
            seconds_to_image: clock.seconds(),
            seconds_to_mount: 0.0,
            seconds_to_exec: None,
            seconds_to_exit: 0.0,
        }
    }

    /// Writes the runtime's configuration. The account files are read through the mounted, verified image.
    fn bundle(&self, run: &RunDir) -> Result<(), RunError> {
        let image = run.image();
        let user = self.user.as_deref().unwrap_or(&self.config.user);
        let passwd = rootfs::read_account_file(&image, "/etc/passwd")?;
        let group = rootfs::read_account_file(&image, "/etc/group")?;
        let identity = identity::resolve(user, &passwd, &group)?;
        let binds = self.all_binds(run)?;
        let hook = self.hook.as_ref().map(|program| {
            let file = run.file(EXEC_TIME).display().to_string();
            [program.clone(), "hook".to_owned(), file]
        });
        let spec = Spec {
            rootfs: &run.rootfs(),
            read_only: self.read_only,
            args: &command_line(&self.config, &self.overrides)?,
            env: &environment(&self.config, &self.overrides, &identity.home),
            cwd: &working_directory(&self.config, &self.overrides),
            identity: &identity,
            terminal: self.overrides.terminal,
            own_network: self.own_network,
            binds: &binds,
            hook: hook.as_ref().map(<[String; 3]>::as_slice),
            stop_signal: &self.config.stop_signal,
        };
        let file = run.bundle().join("config.json");
        fs::write(&file, spec.to_json().to_string()).map_err(|source| RunError::io("write", &file, source))
    }

    /// Returns the user's binds, and copies of the host's files before them: the container may change its own copy.
    fn all_binds(&self, run: &RunDir) -> Result<Vec<Bind>, RunError> {
        let mut binds = Vec::new();
        for file in HOST_FILES.iter().filter(|_| !self.own_network) {
            let name = Path::new(file).file_name().unwrap_or_default();
            let copy = run.file(&name.to_string_lossy());
            match fs::read(file).and_then(|bytes| fs::write(&copy, bytes)) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(source) => return Err(RunError::io("copy", Path::new(file), source)),
            }
            make_readable(&copy)?;
            let source = copy.display().to_string();
            binds.push(Bind { source, destination: (*file).to_owned(), read_only: false });
        }
        binds.extend(self.binds.iter().cloned());
        Ok(binds)
    }
}

/// Gives a copy the mode that such files have, whatever the umask of the user is.
fn make_readable(file: &Path) -> Result<(), RunError> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).map_err(|source| RunError::io("open up", file, source))
}

/// Returns the bytes of the flat image, as the mount says.
fn image_bytes(mounted: &Path) -> u64 {
    rustix::fs::statvfs(mounted).map_or(0, |stat| stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// Returns the exit status for a command that the runtime could not start, as shells have it; none if it was started.
///
/// The runtime has told the user already; what it calls its own status (1) could be the command's.
fn start_failure(log: &Path) -> Option<u8> {
    /// A shell's status for a command that is not there.
    const NOT_FOUND: u8 = 127;
    /// A shell's status for a command that may not be executed.
    const NOT_EXECUTABLE: u8 = 126;
    let log = fs::read_to_string(log).ok()?;
    let errors = log.lines().filter(|line| line.contains(r#""level":"error""#)).collect::<String>();
    if !errors.contains("unable to start container process") {
        return None;
    }
    let unusable = ["permission denied", "exec format error", "input/output error"];
    if unusable.iter().any(|reason| errors.contains(reason)) {
        return Some(NOT_EXECUTABLE);
    }
    let missing = errors.contains("executable file not found") || errors.contains("no such file or directory");
    missing.then_some(NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_start_has_a_shells_status() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("log");
        let status = |line: &str| {
            fs::write(&file, line).unwrap();
            start_failure(&file)
        };
        let error = |text: &str| {
            format!(
                r#"{{"level":"error","msg":"runc run failed: unable to start container process: exec: \"x\": {text}"}}"#
            )
        };
        assert_eq!(status(&error("executable file not found in $PATH")), Some(127));
        assert_eq!(status(&error("stat /x: no such file or directory")), Some(127));
        assert_eq!(status(&error("permission denied")), Some(126));
        assert_eq!(status(r#"{"level":"warning","msg":"permission denied"}"#), None);
        assert_eq!(start_failure(Path::new("/nonexistent")), None);
    }
}
