//! Capabilities: giving them up for good, for processes that read what others wrote, and asking for one.
//!
//! All calls are safe ones of `rustix`. They are together here because their *order* makes the loss irrevocable.
//! Capabilities belong to threads: give them up before the first thread is started.

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// The kernel's capability sets are 64 bits wide; numbers it does not know answer `EINVAL`.
const CAPABILITY_BITS: u32 = 64;

/// Drops every capability of the calling thread: bounding, ambient, inheritable, permitted and effective, and
/// forbids to gain any by `exec`.
///
/// The bounding set can only be emptied with `CAP_SETPCAP`. Without that capability the other sets are emptied all the
/// same: with `no_new_privs` the bounding set has no effect any more.
///
/// # Errors
/// What the kernel says; some sets may be empty already then.
pub fn drop_all_capabilities() -> io::Result<()> {
    set_no_new_privs(true)?;
    for bit in 0..CAPABILITY_BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1_u64 << bit)) {
            Ok(()) => {}
            // EINVAL: the first number the kernel does not know. EPERM: no CAP_SETPCAP.
            Err(Errno::INVAL | Errno::PERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}

/// Returns whether the calling thread may mount: the capability `SYS_ADMIN`.
#[must_use]
pub fn may_mount() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_capability_is_left() {
        // Capabilities belong to the thread, so other tests keep theirs.
        let status = std::thread::spawn(|| {
            drop_all_capabilities().unwrap();
            drop_all_capabilities().unwrap();
            assert!(!may_mount());
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        })
        .join()
        .unwrap();
        let sets: Vec<&str> = status.lines().filter(|line| line.starts_with("Cap")).collect();
        assert_eq!(sets.len(), 5);
        let may_stay = if rustix::process::geteuid().is_root() { "" } else { "CapBnd" };
        for set in sets {
            let empty = set.ends_with("\t0000000000000000");
            assert!(empty || (!may_stay.is_empty() && set.starts_with(may_stay)), "{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"));
    }
}
