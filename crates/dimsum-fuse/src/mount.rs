//! Making a FUSE mount that no path leads to yet, and attaching it.
//!
//! The holder of the descriptors for the server's successors calls this. It uses the mount API of Linux 5.2 and later,
//! where a mount is an object before it has a mount point. One process can make it, and another can attach it in a
//! namespace of its own. The kernel sends INIT when the mount is made and does not wait for its answer.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, open, statx};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use crate::Error;

/// `S_IFDIR`, as the kernel wants it: octal text.
const ROOT_IS_DIRECTORY: &str = "40000";

/// How a FUSE file system is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOptions {
    /// The source in mount tables, for example the image.
    pub source_name: String,
    /// The type in mount tables, after `fuse.`.
    pub subtype: Option<String>,
    /// Others than the mounting user may enter.
    pub allow_other: bool,
    /// The kernel checks permissions by mode, owner and group.
    pub default_permissions: bool,
    /// The user who mounts.
    pub user: u32,
    /// The group of the user who mounts.
    pub group: u32,
    /// Nothing can be written.
    pub read_only: bool,
    /// Set-user-id bits and file capabilities have no effect.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
}

impl MountOptions {
    /// Returns the options of an image mount of root: for all users, checked by the kernel, read-only, without
    /// set-user-id and devices.
    #[must_use]
    pub fn new(source_name: impl Into<String>) -> Self {
        Self {
            source_name: source_name.into(),
            subtype: Some("dimsum".to_owned()),
            allow_other: true,
            default_permissions: true,
            user: 0,
            group: 0,
            read_only: true,
            nosuid: true,
            nodev: true,
        }
    }
}

/// A mount that is not attached anywhere.
#[derive(Debug)]
pub struct DetachedMount {
    /// The `/dev/fuse` descriptor: the session. Non-blocking, close-on-exec.
    pub session: OwnedFd,
    /// The mount. Closed unattached, it is unmounted and the session ends.
    pub mount: OwnedFd,
}

/// Opens a FUSE session and makes its mount, without a place.
///
/// # Errors
/// [`Error::Mount`] with the step that failed.
pub fn open_detached(options: &MountOptions) -> Result<DetachedMount, Error> {
    let at = |step| move |source| Error::Mount { source_name: options.source_name.clone(), step, source };
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let session = open("/dev/fuse", flags, Mode::empty()).map_err(at("open /dev/fuse"))?;
    let context = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC).map_err(at("fsopen"))?;
    let set = |key: &'static str, value: &str| fsconfig_set_string(context.as_fd(), key, value).map_err(at(key));
    let flag = |key: &'static str, wanted: bool| {
        if wanted { fsconfig_set_flag(context.as_fd(), key).map_err(at(key)) } else { Ok(()) }
    };
    set("source", &options.source_name)?;
    if let Some(subtype) = &options.subtype {
        set("subtype", subtype)?;
    }
    // As text: older kernels take no descriptor here.
    set("fd", &session.as_raw_fd().to_string())?;
    set("rootmode", ROOT_IS_DIRECTORY)?;
    set("user_id", &options.user.to_string())?;
    set("group_id", &options.group.to_string())?;
    flag("allow_other", options.allow_other)?;
    flag("default_permissions", options.default_permissions)?;
    flag("ro", options.read_only)?;
    fsconfig_create(context.as_fd()).map_err(at("fsconfig create"))?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes(options)).map_err(at("fsmount"))?;
    Ok(DetachedMount { session, mount })
}

/// Attaches a mount to the directory `target`, in the mount namespace of the caller.
///
/// # Errors
/// [`Error::Mount`].
pub fn attach(mount: impl AsFd, target: &Path) -> Result<(), Error> {
    move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(|source| failed(target, "move_mount", source))
}

/// Takes the mount on `target` away; with `lazy` also if it is in use, which ends it when the last use does.
///
/// # Errors
/// [`Error::Mount`]; `EBUSY` as its source if it is in use.
pub fn detach(target: &Path, lazy: bool) -> Result<(), Error> {
    let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    unmount(target, flags | UnmountFlags::NOFOLLOW).map_err(|source| failed(target, "umount", source))
}

/// Sets how far the kernel reads ahead in the files of a mount, which is also how long its cached READs get.
///
/// Linux starts with 128 KiB. More makes sequential reads faster. But a page fault in a mapped file reads as much
/// *around* itself, which is traffic for a file that is fetched lazily. Needs root; may be called before the session is
/// served, since it asks nothing of the server.
///
/// # Errors
/// [`Error::Mount`].
pub fn set_read_ahead(mount: impl AsFd, kibibytes: u32) -> Result<(), Error> {
    // No attribute is wanted, so the kernel answers with the device number by itself.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let known = statx(mount.as_fd(), "", flags, StatxFlags::empty());
    let known = known.map_err(|source| failed(Path::new("mount"), "statx", source))?;
    let setting = format!("/sys/class/bdi/{}:{}/read_ahead_kb", known.stx_dev_major, known.stx_dev_minor);
    std::fs::write(&setting, kibibytes.to_string()).map_err(|error| {
        let source = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        failed(Path::new(&setting), "write", source)
    })
}

fn attributes(options: &MountOptions) -> MountAttrFlags {
    [
        (options.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (options.nosuid, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (options.nodev, MountAttrFlags::MOUNT_ATTR_NODEV),
    ]
    .into_iter()
    .filter_map(|(wanted, attribute)| wanted.then_some(attribute))
    .collect()
}

fn failed(target: &Path, step: &'static str, source: Errno) -> Error {
    Error::Mount { source_name: target.display().to_string(), step, source }
}
