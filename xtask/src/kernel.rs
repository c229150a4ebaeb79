//! Mounting the flat image with the kernel's own EROFS: no code of ours between the bytes and the reader.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

/// Mounts `file` without a loop device: mount(8) would make one.
pub fn mount_erofs(file: &Path, directory: &Path) -> Result<()> {
    let context = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", file).context("source")?;
    fsconfig_set_flag(context.as_fd(), "ro")?;
    fsconfig_create(context.as_fd()).with_context(|| format!("the kernel refuses {}", file.display()))?;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    move_mount(mount.as_fd(), "", CWD, directory, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    Ok(())
}

/// A mount that goes away with the value.
#[derive(Debug)]
pub struct KernelMount {
    pub path: PathBuf,
}

impl KernelMount {
    pub fn file_backed(file: &Path, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        mount_erofs(file, directory)?;
        Ok(Self { path: directory.to_owned() })
    }

    pub fn loop_device(file: &Path, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let status = Command::new("mount").args(["-t", "erofs", "-o", "ro,loop"]).arg(file).arg(directory).status()?;
        ensure!(status.success(), "mount on a loop device: {status}");
        Ok(Self { path: directory.to_owned() })
    }
}

impl Drop for KernelMount {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("umount {}: {error}", self.path.display());
        }
    }
}
