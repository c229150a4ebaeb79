//! A keeper holds sessions while servers come and go. The servers of these tests are this program again.

#![expect(clippy::unwrap_used, reason = "helpers of tests, outside of any test function")]

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use dimsum_events::log::LogSettings;
use dimsum_fuse::InitReply;
use dimsum_mount::keeper::{self, Config, Inherited, OpenOptions, Program, READY};
use dimsum_sys::child::ChildSetup;
use dimsum_testing::{path_or_skip, root_or_skip};
use rustix::pipe::{PipeFlags, pipe_with};

/// Set for the processes that these tests start: what the server does.
const ROLE: &str = "DIMSUM_MOUNT_TEST_SERVER";
/// What a server writes down, one line per start.
const NOTES: &str = "notes";

fn can_mount() -> bool {
    root_or_skip() && path_or_skip("/dev/fuse")
}

/// Not a test but the keeper process: runs a keeper on the working directory's store.
#[test]
fn keeper_process() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let arguments: Vec<String> = std::env::args().collect();
    let ready = after(&arguments, keeper::READY_FLAG);
    let config = Config {
        store: std::env::current_dir().unwrap(),
        server: this_test("server_process"),
        ready: ready.map(|number| number.parse().unwrap()),
        log: LogSettings::default(),
        trace: |_, _| {},
        foreground: std::env::var_os("DIMSUM_MOUNT_TEST_FOREGROUND").is_some(),
    };
    keeper::run(config).unwrap();
}

/// Not a test but the server process.
#[test]
fn server_process() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let arguments: Vec<String> = std::env::args().collect();
    let Some(inherited) = after(&arguments, keeper::INHERITED_FLAG) else {
        return;
    };
    let inherited = Inherited::take(&inherited).unwrap();
    serve(&role, &inherited);
}

fn serve(role: &str, inherited: &Inherited) {
    let link = &inherited.link;
    let held = link.list().unwrap();
    // The store is the one thing that a server of these tests knows by an inherited descriptor.
    let store = std::env::var("DIMSUM_MOUNT_TEST_STORE").unwrap();
    let note = |text: String| {
        use std::io::Write;
        let notes = std::fs::OpenOptions::new().create(true).append(true).open(Path::new(&store).join(NOTES));
        writeln!(notes.unwrap(), "{text}").unwrap();
    };
    let kill_self = || rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    match (role, held.as_slice()) {
        ("hold", []) => {
            let options = OpenOptions { source_name: "test".into(), suid: false, dev: false };
            let opened = link.open(&options, b"the record").unwrap();
            // The kernel's INIT has come; what is agreed is told, then this server dies with mount and all.
            let bytes = init_reply();
            link.negotiated(opened.id, &bytes).unwrap();
            // Two more descriptors, with roles.
            let files = [tempfile("one"), tempfile("two")];
            link.keep(opened.id, &[("loop", files[0].as_fd()), ("backing", files[1].as_fd())]).unwrap();
            note(format!("opened {}", opened.id));
            kill_self().unwrap();
        }
        ("hold", [session]) => {
            let agreed = session.mount.agreement == init_reply();
            let held = session.mount.descriptors.iter().map(|held| {
                let name = rustix::fs::readlink(format!("/proc/self/fd/{}", held.fd.as_raw_fd()), Vec::new()).unwrap();
                let name =
                    name.into_string().unwrap().rsplit('/').next().unwrap().trim_end_matches(" (deleted)").to_owned();
                format!("{}={name}", held.role)
            });
            let held: Vec<String> = held.collect();
            let record = String::from_utf8_lossy(&session.record);
            note(format!("held {} {agreed} {record} {}", session.id, held.join(" ")));
            link.closed(session.id).unwrap();
            link.ready().unwrap();
        }
        ("crash", []) => {
            note("crash".into());
            kill_self().unwrap();
        }
        ("idle", []) => link.ready().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A file that shows its name.
fn tempfile(name: &str) -> OwnedFd {
    rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC).unwrap()
}

/// A minimal INIT reply of protocol 7.31.
fn init_reply() -> Vec<u8> {
    let mut bytes = vec![7, 0, 0, 0, 31];
    bytes.resize(InitReply::LENGTH, 0);
    bytes
}

fn after(arguments: &[String], flag: &str) -> Option<String> {
    arguments.iter().skip_while(|argument| *argument != flag).nth(1).cloned()
}

/// This program with one test only. What is appended starts with a flag; behind `--skip` the harness takes it for a name.
fn this_test(name: &str) -> Program {
    let arguments = [name, "--exact", "--nocapture", "--skip"].map(OsString::from);
    Program { path: std::env::current_exe().unwrap(), arguments: arguments.into() }
}

struct Keeper {
    child: Child,
    ready: OwnedFd,
}

fn start(store: &Path, role: &str) -> Keeper {
    start_with(store, role, &[])
}

fn start_with(store: &Path, role: &str, variables: &[(&str, &str)]) -> Keeper {
    let (ready, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let mut setup = ChildSetup::new().new_session();
    let number = setup.inherit(writer);
    let program = this_test("keeper_process");
    let mut command = Command::new(program.path);
    command.args(program.arguments).arg(keeper::READY_FLAG).arg(number.to_string());
    command.env(ROLE, role).env("DIMSUM_MOUNT_TEST_STORE", store).envs(variables.iter().copied()).current_dir(store);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    setup.apply(&mut command);
    Keeper { child: command.spawn().unwrap(), ready }
}

impl Keeper {
    fn said(&mut self) -> String {
        let mut text = String::new();
        File::from(self.ready.try_clone().unwrap()).read_to_string(&mut text).unwrap();
        text
    }
}

fn notes(store: &Path) -> String {
    std::fs::read_to_string(store.join(NOTES)).unwrap_or_default()
}

#[test]
fn privileged_a_mount_outlives_its_server_with_record_agreement_and_all_descriptors() {
    if !can_mount() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // Longer than a socket's address: the socket must be found all the same.
    let store = directory.path().join("x".repeat(120));
    std::fs::create_dir(&store).unwrap();
    let mut keeper = start(&store, "hold");
    assert_eq!(keeper.said().as_bytes(), READY);
    assert!(keeper.child.wait().unwrap().success());
    assert_eq!(notes(&store), "opened 1\nheld 1 true the record fuse=fuse loop=memfd:one backing=memfd:two\n");
    assert!(!store.join("socket").exists());
}

#[test]
fn a_server_that_never_gets_ready_is_given_up_and_the_client_told() {
    let store = tempfile::tempdir().unwrap();
    let mut keeper = start(store.path(), "crash");
    let said = keeper.said();
    assert!(said.contains("before it was ready") && said.contains("signal: 9"), "{said}");
    assert!(!keeper.child.wait().unwrap().success());
    assert_eq!(notes(store.path()), "crash\n".repeat(3));
}

#[test]
fn a_keeper_ends_with_its_idle_server() {
    let store = tempfile::tempdir().unwrap();
    let mut keeper = start(store.path(), "idle");
    assert_eq!(keeper.said().as_bytes(), READY);
    assert!(keeper.child.wait().unwrap().success());
}

#[test]
fn a_store_has_one_keeper() {
    let store = tempfile::tempdir().unwrap();
    let lock = File::create(store.path().join("lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let mut keeper = start_with(store.path(), "idle", &[("DIMSUM_MOUNT_TEST_FOREGROUND", "1")]);
    let said = keeper.said();
    assert!(said.contains("served by another process"), "{said}");
    assert!(!keeper.child.wait().unwrap().success());
}
