//! A container is started as a third party would: with a mounted file tree, a config, and nothing else of Dimsum.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;

use dimsum_format::manifest::ImageConfig;
use dimsum_run::signals::{SignalReceiver, SignalSender, channel};
use dimsum_run::{Bind, ContainerEnd, ContainerRequest, RunDir, RunError, run_container};
use dimsum_testing::{path_or_skip, program_or_skip, root_or_skip};
use rustix::fs::{CWD, Mode};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::Signal;
use tempfile::TempDir;

/// A statically linked program with a shell in it.
const BUSYBOX: &str = "/bin/busybox";

fn can_run() -> bool {
    root_or_skip() && path_or_skip(BUSYBOX) && program_or_skip("runc")
}

/// A file tree with a shell, a place for runs, and a directory that the container shares with the test.
struct Scratch {
    dir: TempDir,
    signals: SignalReceiver,
}

impl Scratch {
    fn new() -> (Self, SignalSender) {
        // Not /tmp: overlayfs cannot write to every file system that is found there.
        let dir = tempfile::Builder::new().prefix("dimsum-run-").tempdir_in("/var/tmp").unwrap();
        for path in ["image/bin", "image/etc", "shared", "store"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let image = dir.path().join("image");
        fs::copy(BUSYBOX, image.join("bin/busybox")).unwrap();
        symlink("busybox", image.join("bin/sh")).unwrap();
        fs::write(image.join("etc/passwd"), "app:x:1234:1235::/home/app:/bin/sh\n").unwrap();
        let (sender, signals) = channel().unwrap();
        (Self { dir, signals }, sender)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A detached mount of the tree: what a driver gives.
    fn image(&self) -> OwnedFd {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(CWD, self.path("image"), flags).unwrap()
    }

    fn request(&self, script: &str) -> ContainerRequest {
        let config = r#"{"os":"linux","config":{"Entrypoint":["/bin/sh","-c"],"StopSignal":"SIGUSR1"}}"#;
        let mut request = ContainerRequest::new(&ImageConfig::parse(config.as_bytes()).unwrap()).unwrap();
        request.overrides.command = vec![script.to_owned()];
        request.own_network = true;
        let source = self.path("shared").display().to_string();
        request.binds = vec![Bind { source, destination: "/shared".into(), read_only: false }];
        request
    }

    fn run(&self, request: &ContainerRequest) -> Result<ContainerEnd, RunError> {
        let dir = RunDir::create(&self.path("store")).unwrap();
        let ended = run_container(request, &dir, self.image().as_fd(), &self.signals);
        let mounted = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounted.contains(dir.id()), "a mount of the run is left on the host");
        dir.close();
        assert_eq!(
            fs::read_dir(self.path("store/run")).unwrap().filter(|run| is_dir(run.as_ref().unwrap())).count(),
            0
        );
        ended
    }
}

fn is_dir(entry: &fs::DirEntry) -> bool {
    entry.file_type().unwrap().is_dir()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn privileged_a_container_has_the_commands_status_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let (scratch, _sender) = Scratch::new();
    let mut request = scratch.request("echo new > /etc/passwd; echo $HOME $0 $A > /shared/said; exit 7");
    request.user = Some("0:0".into());
    request.overrides.env = vec!["A=b".into()];
    assert_eq!(scratch.run(&request).unwrap(), ContainerEnd { exit_status: 7, exec_time: None });
    assert_eq!(read(&scratch.path("shared/said")), "/ /bin/sh b\n");
    assert!(read(&scratch.path("image/etc/passwd")).starts_with("app:"), "the image was changed");
}

#[test]
fn privileged_the_command_runs_as_the_images_account_says() {
    if !can_run() {
        return;
    }
    let (scratch, _sender) = Scratch::new();
    let mut request = scratch.request("test $(/bin/busybox id -u):$(/bin/busybox id -g):$HOME = 1234:1235:/home/app");
    request.user = Some("app".into());
    assert_eq!(scratch.run(&request).unwrap().exit_status, 0);
    request.user = Some("nobody".into());
    assert!(matches!(scratch.run(&request), Err(RunError::NoAccount { what: "user", .. })));
}

#[test]
fn privileged_term_arrives_as_the_images_stop_signal() {
    if !can_run() {
        return;
    }
    let (scratch, sender) = Scratch::new();
    let ready = scratch.path("shared/ready");
    rustix::fs::mknodat(CWD, &ready, rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let waiting = thread::spawn(move || {
        // The command opens it when its trap is set.
        File::open(ready).unwrap().read_to_end(&mut Vec::new()).unwrap();
        sender.send(Signal::TERM).unwrap();
    });
    let script = "trap 'exit 42' USR1; echo > /shared/ready; while :; do /bin/busybox sleep 0.1; done";
    assert_eq!(scratch.run(&scratch.request(script)).unwrap().exit_status, 42);
    waiting.join().unwrap();
}

#[test]
fn privileged_a_signal_before_the_start_keeps_the_command_from_starting() {
    if !can_run() {
        return;
    }
    let (scratch, sender) = Scratch::new();
    sender.send(Signal::INT).unwrap();
    let ended = scratch.run(&scratch.request("echo > /shared/started"));
    assert!(matches!(ended, Err(RunError::Interrupted { signal: 2 })), "{ended:?}");
    assert!(!scratch.path("shared/started").exists());
}

#[test]
fn privileged_a_command_that_is_not_there_has_status_127() {
    if !can_run() {
        return;
    }
    let (scratch, _sender) = Scratch::new();
    let mut request = scratch.request("");
    request.overrides.entrypoint = Some("/missing".into());
    assert_eq!(scratch.run(&request).unwrap().exit_status, 127);
}
