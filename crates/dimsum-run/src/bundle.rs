//! The runtime's bundle: its configuration, and copies of the host's files for the container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::bind::Bind;
use crate::dirs::RunDir;
use crate::exec_time::EXEC_TIME;
use crate::process::{command_line, environment, working_directory};
use crate::request::ContainerRequest;
use crate::spec::Spec;
use crate::{RunError, identity, rootfs};

/// Files of the host that a container with the host's network gets a copy of.
const HOST_FILES: [&str; 2] = ["/etc/hosts", "/etc/resolv.conf"];

/// Writes the runtime's configuration. The account files are read through the mounted, verified image.
///
/// # Errors
/// If the request does not fit the image, or a file cannot be read or written.
pub(crate) fn write_bundle(request: &ContainerRequest, dir: &RunDir) -> Result<(), RunError> {
    let image = dir.image();
    let ContainerRequest { config, overrides, .. } = request;
    let user = request.user.as_deref().unwrap_or(&config.user);
    let passwd = rootfs::read_account_file(&image, "/etc/passwd")?;
    let group = rootfs::read_account_file(&image, "/etc/group")?;
    let identity = identity::resolve(user, &passwd, &group)?;
    let binds = all_binds(request, dir)?;
    let hook = request.exec_hook.as_ref().map(|program| {
        let file = dir.file(EXEC_TIME).display().to_string();
        program.iter().cloned().chain([file]).collect::<Vec<_>>()
    });
    let spec = Spec {
        rootfs: &dir.rootfs(),
        read_only: request.read_only,
        args: &command_line(config, overrides)?,
        env: &environment(config, overrides, &identity.home),
        cwd: &working_directory(config, overrides),
        identity: &identity,
        terminal: overrides.terminal,
        own_network: request.own_network,
        binds: &binds,
        hook: hook.as_deref(),
        stop_signal: &config.stop_signal,
    };
    let file = dir.bundle().join("config.json");
    fs::write(&file, spec.to_json().to_string()).map_err(|source| RunError::io("write", &file, source))
}

/// Returns the user's binds, and copies of the host's files before them: the container may change its own copy.
fn all_binds(request: &ContainerRequest, dir: &RunDir) -> Result<Vec<Bind>, RunError> {
    let mut binds = Vec::new();
    for file in HOST_FILES.iter().filter(|_| !request.own_network) {
        let name = Path::new(file).file_name().unwrap_or_default();
        let copy = dir.file(&name.to_string_lossy());
        match fs::read(file).and_then(|bytes| fs::write(&copy, bytes)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(RunError::io("copy", Path::new(file), source)),
        }
        make_readable(&copy)?;
        let source = copy.display().to_string();
        binds.push(Bind { source, destination: (*file).to_owned(), read_only: false });
    }
    binds.extend(request.binds.iter().cloned());
    Ok(binds)
}

/// Gives a copy the mode that such files have, whatever the umask of the user is.
fn make_readable(file: &Path) -> Result<(), RunError> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).map_err(|source| RunError::io("open up", file, source))
}
