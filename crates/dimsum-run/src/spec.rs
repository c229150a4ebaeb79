//! The OCI runtime specification (`config.json`) of one container.
//!
//! The container is confined as other tools confine it by default: the same capabilities, hidden and read-only paths,
//! and device rules. No seccomp filter is set.

use std::path::Path;

use serde_json::{Value, json};

use crate::bind::Bind;
use crate::identity::Identity;

/// The runtime specification's version; runc 1.1 speaks it.
const VERSION: &str = "1.0.2";

/// What other tools leave to root in a container.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Paths that tell or change things of the host.
const MASKED_PATHS: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Everything that goes into the specification.
#[derive(Debug)]
pub(crate) struct Spec<'a> {
    /// Where the root file system is mounted.
    pub(crate) rootfs: &'a Path,
    /// Whether the container may only read it.
    pub(crate) read_only: bool,
    /// Command line.
    pub(crate) args: &'a [String],
    /// Environment.
    pub(crate) env: &'a [String],
    /// Working directory.
    pub(crate) cwd: &'a str,
    /// Who the process runs as.
    pub(crate) identity: &'a Identity,
    /// Whether the process gets a terminal.
    pub(crate) terminal: bool,
    /// Whether the container has a network of its own, with nothing but loopback.
    pub(crate) own_network: bool,
    /// Directories and files of the host.
    pub(crate) binds: &'a [Bind],
    /// A program (with arguments) that runs when the container is set up, right before the command.
    pub(crate) hook: Option<&'a [String]>,
    /// The image's stop signal, for other tools that look at the container.
    pub(crate) stop_signal: &'a str,
}

impl Spec<'_> {
    /// Returns the document.
    #[must_use]
    pub(crate) fn to_json(&self) -> Value {
        let mut spec = json!({
            "ociVersion": VERSION,
            "process": self.process(),
            "root": { "path": self.rootfs, "readonly": self.read_only },
            "mounts": self.mounts(),
            "annotations": { "org.opencontainers.image.stopSignal": self.stop_signal },
            "linux": {
                // All devices are denied but those the runtime allows by itself (null, zero, tty, …).
                "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
                "namespaces": self.namespaces(),
                "maskedPaths": MASKED_PATHS,
                "readonlyPaths": READ_ONLY_PATHS,
            },
        });
        if let (Some([path, ..]), Some(object)) = (self.hook, spec.as_object_mut()) {
            object.insert("hooks".to_owned(), json!({ "poststart": [{ "path": path, "args": self.hook }] }));
        }
        spec
    }

    fn process(&self) -> Value {
        // As execve does: a process that is not root starts without capabilities and can only get those of the bound.
        let held: &[&str] = if self.identity.uid == 0 { &CAPABILITIES } else { &[] };
        json!({
            "terminal": self.terminal,
            "user": {
                "uid": self.identity.uid,
                "gid": self.identity.gid,
                "additionalGids": self.identity.groups,
            },
            "args": self.args,
            "env": self.env,
            "cwd": self.cwd,
            "capabilities": { "bounding": CAPABILITIES, "effective": held, "permitted": held },
            "noNewPrivileges": false,
        })
    }

    fn namespaces(&self) -> Value {
        let own = ["pid", "ipc", "uts", "mount"].into_iter().chain(self.own_network.then_some("network"));
        own.map(|kind| json!({ "type": kind })).collect()
    }

    fn mounts(&self) -> Value {
        let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
        let mut mounts = vec![
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        ];
        mounts.extend(self.binds.iter().map(|bind| {
            let access = if bind.read_only { "ro" } else { "rw" };
            json!({
                "destination": bind.destination,
                "type": "bind",
                "source": bind.source,
                "options": ["rbind", "rprivate", access],
            })
        }));
        Value::Array(mounts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(identity: &Identity, own_network: bool, hook: Option<&[String]>) -> Value {
        let words = ["sh".to_owned()];
        let binds = [Bind { source: "/a".into(), destination: "/b".into(), read_only: true }];
        Spec {
            rootfs: Path::new("/r"),
            read_only: true,
            args: &words,
            env: &[],
            cwd: "/",
            identity,
            terminal: false,
            own_network,
            binds: &binds,
            hook,
            stop_signal: "SIGTERM",
        }
        .to_json()
    }

    fn user(uid: u32) -> Identity {
        Identity { uid, gid: uid, groups: vec![4], home: "/".into() }
    }

    #[test]
    fn only_root_holds_capabilities_from_the_start() {
        let capabilities = |uid| spec(&user(uid), false, None)["process"]["capabilities"].clone();
        assert_eq!(capabilities(0)["effective"].as_array().unwrap().len(), 14);
        assert_eq!(capabilities(1)["effective"], json!([]));
        assert_eq!(capabilities(1)["bounding"].as_array().unwrap().len(), 14);
        assert_eq!(capabilities(0).get("inheritable"), None);
    }

    #[test]
    fn the_network_is_the_hosts_unless_none_is_wanted() {
        let has = |own| spec(&user(0), own, None)["linux"]["namespaces"].to_string().contains("network");
        assert!(has(true) && !has(false));
    }

    #[test]
    fn binds_come_last_and_keep_their_mode() {
        let spec = spec(&user(0), false, None);
        let last = spec["mounts"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["options"], json!(["rbind", "rprivate", "ro"]));
        assert_eq!((last["source"].as_str(), last["destination"].as_str()), (Some("/a"), Some("/b")));
    }

    #[test]
    fn a_hook_is_there_only_when_asked_for() {
        assert_eq!(spec(&user(0), false, None).get("hooks"), None);
        let hook = ["/bin/hook".to_owned(), "arg".to_owned()];
        let with = spec(&user(0), false, Some(&hook));
        assert_eq!(with["hooks"]["poststart"], json!([{ "path": "/bin/hook", "args": ["/bin/hook", "arg"] }]));
    }
}
