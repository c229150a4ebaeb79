//! run, mount and umount with the real program, as root, on a file system with nothing but busybox.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::{Scratch, both, busybox, privileged, write_layout};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A converted image with a process config.
fn image(process: Value) -> (Scratch, String) {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), vec![busybox()], process);
    scratch.ok(&["convert", &scratch.image("source"), &scratch.image("out")]);
    let image = scratch.image("out");
    (scratch, image)
}

/// Starts a container and waits for its first line.
fn start(scratch: &Scratch, arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child = scratch.dimsum(arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, out)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits in a way that a trap interrupts.
const WAIT: &str = "echo ready; while :; do sleep 60 & wait $!; done";

#[test]
fn privileged_run_passes_on_output_and_exit_status() {
    if !privileged() {
        return;
    }
    let (scratch, image) = image(json!({ "Entrypoint": ["sh", "-c"], "Cmd": ["echo default"] }));
    assert_eq!(scratch.ok(&["run", &image]), "default\n");
    let status = |script: &str| scratch.output(&["run", &image, script]).status.code();
    assert_eq!(status("exit 7"), Some(7));
    let output = scratch.output(&["run", "--entrypoint", "/no/such", &image]);
    assert_eq!(output.status.code(), Some(127), "{}", both(&output));
    let left =
        fs::read_dir(scratch.store().join("run")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(left.count(), 0);
}

#[test]
fn privileged_run_takes_user_directory_and_environment_from_image_and_user() {
    if !privileged() {
        return;
    }
    let process =
        json!({ "Env": ["A=image", "B=image"], "User": "app", "WorkingDir": "/not/there/yet", "Cmd": ["sh"] });
    let (scratch, image) = image(process);
    let script = "id -u; id -g; id -G; pwd; echo $A $B $HOME";
    let shown = scratch.ok(&["run", "--env", "B=user", &image, "sh", "-c", script]);
    assert_eq!(shown, "1234\n1235\n1235 77\n/not/there/yet\nimage user /home/app\n");
    let shown = scratch.ok(&["run", "--user", "0:77", "--workdir", "/etc", &image, "sh", "-c", script]);
    assert_eq!(shown, "0\n77\n77\n/etc\nimage image /root\n");
    let output = scratch.output(&["run", "--user", "nobody", &image]);
    assert_eq!(output.status.code(), Some(2), "{}", both(&output));
}

#[test]
fn privileged_run_writes_to_an_overlay_that_is_thrown_away_or_not_at_all() {
    if !privileged() {
        return;
    }
    let (scratch, image) = image(json!({ "Cmd": ["sh"] }));
    let script = "touch /etc/new && ls /etc/new";
    assert_eq!(scratch.ok(&["run", &image, "sh", "-c", script]), "/etc/new\n");
    let again = scratch.output(&["run", &image, "ls", "/etc/new"]);
    assert!(!again.status.success());
    let refused = scratch.output(&["run", "--read-only", &image, "sh", "-c", script]);
    assert!(!refused.status.success() && both(&refused).contains("Read-only"), "{}", both(&refused));
}

#[test]
fn privileged_run_shows_binds() {
    if !privileged() {
        return;
    }
    let (scratch, image) = image(json!({ "Cmd": ["sh"] }));
    fs::create_dir(scratch.path("shared")).unwrap();
    fs::write(scratch.path("shared/file"), "from outside\n").unwrap();
    let bind = |mode: &str| format!("{}:/mnt/here{mode}", scratch.path("shared").display());
    assert_eq!(scratch.ok(&["run", "--bind", &bind(""), &image, "cat", "/mnt/here/file"]), "from outside\n");
    let output = scratch.output(&["run", "--bind", &bind(":ro"), &image, "touch", "/mnt/here/new"]);
    assert!(!output.status.success());
}

#[test]
fn privileged_run_passes_signals_on_and_term_as_the_images_stop_signal() {
    if !privileged() {
        return;
    }
    let (scratch, image) = image(json!({ "Cmd": ["sh"], "StopSignal": "SIGUSR1" }));
    let script = format!("trap 'echo usr1; exit 5' USR1; trap 'echo int; exit 6' INT; {WAIT}");
    for (sent, word, status) in [(Signal::TERM, "usr1\n", 5), (Signal::INT, "int\n", 6)] {
        let (mut child, mut out) = start(&scratch, &["run", &image, "sh", "-c", &script]);
        signal(&child, sent);
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        assert_eq!((rest.as_str(), child.wait().unwrap().code()), (word, Some(status)));
    }
}

#[test]
fn privileged_run_starts_an_ordinary_image_again_without_its_source() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), vec![busybox()], json!({ "Cmd": ["sh", "-c", "echo started"] }));
    let image = scratch.image("source");
    assert_eq!(scratch.ok(&["run", &image]), "started\n");
    fs::rename(scratch.path("source"), scratch.path("moved")).unwrap();
    assert_eq!(scratch.ok(&["run", &image]), "started\n");
}

#[test]
fn privileged_run_reports_what_was_read_and_when() {
    if !privileged() {
        return;
    }
    let (scratch, image) = image(json!({ "Cmd": ["sh"] }));
    let file = scratch.path("report.json");
    let option = format!("--report={}", file.display());
    scratch.ok(&["run", &option, &image, "cat", "/etc/passwd"]);
    let report: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let number = |key: &str| report[key].as_f64().unwrap_or_else(|| panic!("{key} is not in {report}"));
    assert!(number("chunks_verified") > 0.0 && number("fetched_bytes") > 0.0 && number("source_requests") > 0.0);
    // Manifest and config are fetched too, and are no layers.
    assert!(number("fetched_bytes") <= number("stored_bytes") + 16384.0 && number("stored_bytes") > 0.0);
    assert!(number("image_bytes") > number("stored_bytes"));
    let times = ["seconds_to_image", "seconds_to_mount", "seconds_to_exec", "seconds_to_exit"].map(number);
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!((number("exit_status"), number("repairs"), number("errors")), (0.0, 0.0, 0.0));
}

#[test]
fn privileged_run_heals_the_store_and_fails_with_status_3_when_nothing_is_right() {
    if !privileged() {
        return;
    }
    let (scratch, image) = image(json!({ "Cmd": ["sh", "-c", "exit 0"] }));
    scratch.ok(&["run", &image]);
    let flip = |directory: &Path| {
        let kinds = ["-type", "f", "(", "-name", "data", "-o", "-name", "meta", ")"];
        let files = Command::new("find").arg(directory).args(kinds).output().unwrap();
        for file in String::from_utf8(files.stdout).unwrap().lines() {
            let mut bytes = fs::read(file).unwrap();
            bytes.iter_mut().step_by(4096).for_each(|byte| *byte ^= 1);
            fs::write(file, bytes).unwrap();
        }
    };
    flip(&scratch.store());
    let healed = scratch.output(&["run", &image]);
    assert!(healed.status.success() && both(&healed).contains("integrity: "), "{}", both(&healed));
    flip(&scratch.store());
    let checked = scratch.output(&["check", &image, "--store"]);
    assert!(checked.status.code() == Some(3) && both(&checked).contains("meta: "), "{}", both(&checked));
    let manifest = Command::new("find").arg(scratch.store()).args(["-name", "manifest"]).output().unwrap();
    fs::write(String::from_utf8(manifest.stdout).unwrap().trim_end(), b"{}").unwrap();
    let checked = scratch.output(&["check", &image, "--store"]);
    assert!(checked.status.code() == Some(3) && both(&checked).contains("manifest: "), "{}", both(&checked));
    let inspected: Value = serde_json::from_str(&scratch.ok(&["inspect", &image, "--format", "json"])).unwrap();
    for pack in inspected["packs"].as_array().unwrap() {
        let digest = pack["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let file = scratch.path("out/blobs/sha256").join(digest);
        let mut bytes = fs::read(&file).unwrap();
        // Dense enough for the smallest frame.
        bytes.iter_mut().skip(9).step_by(16).for_each(|byte| *byte ^= 1);
        fs::write(file, bytes).unwrap();
    }
    let failed = scratch.output(&["run", &image]);
    assert_eq!(failed.status.code(), Some(3), "{}", both(&failed));
    assert!(failed.stdout.is_empty() && both(&failed).contains("integrity"), "{}", both(&failed));
}

#[test]
fn privileged_run_leaves_nothing_of_a_killed_client_after_the_next_run() {
    if !privileged() {
        return;
    }
    let (scratch, image) = image(json!({ "Cmd": ["sh"] }));
    let marker = format!("marker-{}", std::process::id());
    // Deaf to what a dying client sends, so that only the sweep can end it.
    let script = format!("trap '' TERM HUP INT; : {marker}; {WAIT}");
    let (mut child, _out) = start(&scratch, &["run", &image, "sh", "-c", &script]);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    scratch.ok(&["run", &image, "true"]);
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let commands = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let alive: Vec<String> = commands
        .map(|command| String::from_utf8_lossy(&command).replace('\0', " "))
        .filter(|command| command.contains(&marker))
        .collect();
    assert!(alive.is_empty(), "{alive:?}");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&scratch.store().display().to_string()), "{mounts}");
    let left =
        fs::read_dir(scratch.store().join("run")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(left.count(), 0);
}

#[test]
fn privileged_mount_shows_the_image_and_umount_says_who_uses_it() {
    if !privileged() {
        return;
    }
    let (scratch, image) = image(json!({}));
    let directory = scratch.path("mnt");
    fs::create_dir(&directory).unwrap();
    let target = directory.to_str().unwrap();
    scratch.ok(&["mount", &image, target]);
    let _taken_away = Unmount(&directory);
    assert_eq!(fs::read(directory.join("bin/busybox")).unwrap(), fs::read("/bin/busybox").unwrap());
    let info: Value = serde_json::from_str(&scratch.ok(&["info", "--format", "json"])).unwrap();
    assert_eq!(info["mounts"][0]["target"], target);
    let mut user = Command::new("sleep").arg("600").current_dir(&directory).spawn().unwrap();
    let busy = scratch.output(&["umount", target]);
    let named = both(&busy).contains(&format!("process {}", user.id()));
    user.kill().unwrap();
    user.wait().unwrap();
    assert!(busy.status.code() == Some(1) && named, "{}", both(&busy));
    scratch.ok(&["umount", target]);
    assert!(!directory.join("bin").exists());
}

#[test]
fn privileged_mount_in_the_foreground_ends_with_a_signal() {
    if !privileged() {
        return;
    }
    let (scratch, image) = image(json!({}));
    let directory = scratch.path("mnt");
    fs::create_dir(&directory).unwrap();
    let _taken_away = Unmount(&directory);
    let arguments = ["mount", "--foreground", &image, directory.to_str().unwrap()];
    let mut child = scratch.dimsum(&arguments).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(directory.join("bin/sh").is_symlink(), "{line}");
    signal(&child, Signal::TERM);
    assert!(child.wait().unwrap().success());
    assert!(!directory.join("bin").exists());
}

/// Takes a mount away if the test failed before it did.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _not_mounted = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
