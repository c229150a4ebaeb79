//! The mounts of one run: the image, and an overlay that takes what the container writes.
//!
//! They are made in a mount namespace of this process' own. Directories are named to the kernel by `/proc/self/fd`
//! links. An option string has at most 255 bytes, and a path may hold the colons and commas that overlayfs splits at.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, unmount,
};

use crate::RunError;
use crate::dirs::RunDir;
use crate::identity::MAX_ACCOUNT_FILE;

/// Leaves the mount namespace of the caller. Later mounts of the host still arrive here (and its unmounts, so that
/// nothing is kept busy by us), ours never travel back.
///
/// Call it on the thread that mounts and starts the container.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`.
pub(crate) fn leave_mount_namespace() -> Result<(), RunError> {
    dimsum_sys::namespace::unshare_mounts().map_err(|source| RunError::Privileges { source })?;
    let downstream = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", downstream).map_err(|source| RunError::Privileges { source: source.into() })
}

/// Attaches the mount of the image to its directory.
///
/// # Errors
/// What the kernel says.
pub(crate) fn attach_image(image: BorrowedFd<'_>, run: &RunDir) -> Result<(), RunError> {
    let target = run.image();
    let moved = move_mount(image, "", CWD, &target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    moved.map_err(|source| RunError::Mount { what: "the image", path: target, source: source.into() })
}

/// Mounts the overlay of a run: the image below, the run's own directory above.
///
/// # Errors
/// What the kernel says.
pub(crate) fn mount_overlay(run: &RunDir) -> Result<(), RunError> {
    like_root_of(&run.image(), &run.upper())?;
    let (image, upper, work) = (directory(&run.image())?, directory(&run.upper())?, directory(&run.work())?);
    let rootfs = run.rootfs();
    let mounted = overlay(&image, &upper, &work, &rootfs);
    mounted.map_err(|source| RunError::Mount { what: "the container's file system", path: rootfs, source })
}

/// Gives the upper directory owner and mode of the image's root: they are what the overlay's root has.
fn like_root_of(image: &Path, upper: &Path) -> Result<(), RunError> {
    let root = std::fs::metadata(image).map_err(|source| RunError::io("look at", image, source))?;
    let set = chown(upper, Some(root.uid()), Some(root.gid()))
        // After the owner: a change of the owner clears setuid and setgid.
        .and_then(|()| std::fs::set_permissions(upper, root.permissions()));
    set.map_err(|source| RunError::io("prepare", upper, source))
}

fn overlay(image: &OwnedFd, upper: &OwnedFd, work: &OwnedFd, target: &Path) -> io::Result<()> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let context = context.as_fd();
    fsconfig_set_string(context, "source", "dimsum")?;
    for (key, directory) in [("lowerdir", image), ("upperdir", upper), ("workdir", work)] {
        fsconfig_set_string(context, key, format!("/proc/self/fd/{}", directory.as_raw_fd()))?;
    }
    // The upper layer ends with the container, so nobody has to wait until it is on disk. Kernels before 5.10 lack it.
    let _volatile = fsconfig_set_flag(context, "volatile");
    fsconfig_create(context)?;
    let mount = fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    move_mount(mount.as_fd(), "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

fn directory(path: &Path) -> Result<OwnedFd, RunError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|source| RunError::io("open", path, source.into()))
}

/// Takes the mounts of a run away, so that its directory can be removed.
pub(crate) fn unmount_all(run: &RunDir) {
    for path in [run.rootfs(), run.image()] {
        // Detached, not waited for: whatever still holds it lets go when it ends.
        let _not_mounted = unmount(&path, UnmountFlags::DETACH);
    }
}

/// Reads an account file (`etc/passwd`) out of a mounted image; a missing one is empty.
///
/// Links are followed inside the image only, and only a regular file is read: an image may put a FIFO there.
///
/// # Errors
/// If it cannot be read or is above the limit.
pub(crate) fn read_account_file(image: &Path, file: &'static str) -> Result<Vec<u8>, RunError> {
    let root = directory(image)?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let failed = |source| RunError::io("read", Path::new(file), source);
    let opened = match openat2(&root, file.trim_start_matches('/'), flags, Mode::empty(), resolve) {
        Ok(opened) => File::from(opened),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Vec::new()),
        Err(error) => return Err(failed(error.into())),
    };
    if !opened.metadata().map_err(failed)?.is_file() {
        return Ok(Vec::new());
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file at the limit from one above it.
    opened.take(MAX_ACCOUNT_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_ACCOUNT_FILE {
        return Err(RunError::AccountFile { file, limit: MAX_ACCOUNT_FILE });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn account_files_are_read_inside_the_image_only() {
        let image = tempfile::tempdir().unwrap();
        let etc = image.path().join("etc");
        std::fs::create_dir(&etc).unwrap();
        assert_eq!(read_account_file(image.path(), "/etc/passwd").unwrap(), b"");
        symlink("/etc/real", etc.join("passwd")).unwrap();
        std::fs::write(etc.join("real"), "inside").unwrap();
        assert_eq!(read_account_file(image.path(), "/etc/passwd").unwrap(), b"inside");
        // On this machine the link below leads to a file; inside the image to nothing.
        symlink("../../../../../../../../etc/passwd", etc.join("group")).unwrap();
        assert_eq!(read_account_file(image.path(), "/etc/group").unwrap(), b"inside");
    }

    #[test]
    fn a_huge_account_file_is_refused_and_a_directory_is_none() {
        let image = tempfile::tempdir().unwrap();
        let etc = image.path().join("etc");
        std::fs::create_dir_all(etc.join("group")).unwrap();
        assert_eq!(read_account_file(image.path(), "/etc/group").unwrap(), b"");
        File::create(etc.join("passwd")).unwrap().set_len(MAX_ACCOUNT_FILE + 1).unwrap();
        assert!(matches!(read_account_file(image.path(), "/etc/passwd"), Err(RunError::AccountFile { .. })));
    }
}
