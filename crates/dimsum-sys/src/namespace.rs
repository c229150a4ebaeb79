//! Leaving the mount namespace, so that later mounts stay private to one process tree.

#![expect(unsafe_code, reason = "unshare is unsafe in general, not for mount namespaces")]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread, and its later children, into a copy of its mount namespace.
///
/// Other threads of the process stay where they are. Whoever wants no mount to travel in either direction must
/// also make the propagation of `/` private.
///
/// # Errors
/// `EPERM` without `CAP_SYS_ADMIN`, else what the kernel says.
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: the danger of unshare is a descriptor table or memory that threads believe to share. CLONE_NEWNS
    // separates the mount namespace and, by implication, working directory and umask only.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_a_thread_leaves_its_mount_namespace_alone() {
        if !dimsum_testing::root_or_skip() {
            return;
        }
        let before = std::fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        let inside = std::thread::spawn(|| {
            unshare_mounts().unwrap();
            std::fs::read_link("/proc/thread-self/ns/mnt").unwrap()
        })
        .join()
        .unwrap();
        assert_ne!(before, inside);
        assert_eq!(before, std::fs::read_link("/proc/thread-self/ns/mnt").unwrap());
    }
}
