//! Records of the server and of commands: the way of one read, and secrets that are never among them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dimsum_node::{Client, Program};
use dimsum_testing::outage::{Fault, OutageRegistry, RequestKind};
use serde_json::{Value, json};

use crate::support::{Layer, Scratch, TAG, both, privileged, write_layout};
use crate::views::noise;

/// How long to wait for something that a thread of the server does.
const PATIENCE: Duration = Duration::from_secs(60);
/// Fills some chunks.
const BIG: usize = 900_000;
const SECRET: &str = "correct-horse-battery";

/// A registry with a Dimsum image that has one large file, and a directory to mount it on.
fn served(scratch: &Scratch) -> (OutageRegistry, PathBuf) {
    let layer = Layer::default().file("big", 0o644, &noise(7, BIG)).file("small", 0o644, b"small");
    write_layout(&scratch.path("source"), vec![layer], json!({}));
    scratch.ok(&["convert", &scratch.image("source"), &scratch.image("image")]);
    let directory = scratch.path("mnt");
    fs::create_dir(&directory).unwrap();
    (OutageRegistry::serve(&scratch.path("image")), directory)
}

/// Lets the server write all that it has said, and returns the records of its log.
fn records(scratch: &Scratch) -> Vec<Value> {
    let keeper = Program { path: "/bin/false".into(), arguments: Vec::<OsString>::new() };
    Client::new(&scratch.store(), keeper).unwrap().flush_log().unwrap();
    let log = fs::read_to_string(scratch.store().join("server.log")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn privileged_one_cold_read_is_one_chain_of_records_from_the_kernel_to_the_registry() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let (registry, directory) = served(&scratch);
    let (image, target) = (registry.reference(TAG), directory.to_str().unwrap());
    scratch.ok(&["--log-level", "debug", "--log-format", "json", "mount", &image, target]);
    let _taken_away = Unmount(&directory);
    assert!(fs::read(directory.join("big")).unwrap() == noise(7, BIG));

    let records = records(&scratch);
    let said = |message: &'static str| records.iter().filter(move |record| record["message"] == message);
    let answer = said("has an answer").find(|record| record["op"] == "read").expect("a read that asked the registry");
    assert_eq!(answer["status"], 206, "{answer}");
    assert!(answer["path"].as_str().unwrap().contains("/blobs/sha256:"), "{answer}");
    let ids = |record: &Value| ["mount", "unique", "image"].map(|name| record[name].clone());
    let of_read = |message| said(message).filter(|record| ids(record) == ids(answer));
    let same_request =
        |record: &&Value| record["request"] == answer["request"] && record["attempt"] == answer["attempt"];
    let asked = of_read("asks a source").find(same_request).expect("the request to the source");
    assert!(asked["source"].as_str().unwrap().contains(&registry.host()), "{asked}");
    let flights: Vec<&str> = answer["flights"].as_str().unwrap().split(',').collect();
    let in_flights = |record: &&Value| flights.contains(&record["flight"].to_string().as_str());
    let started = of_read("starts a flight").find(in_flights).expect("the flight that the read waits for");
    let proven =
        said("the bytes are proven").find(|record| record["flight"] == started["flight"]).expect("the landing");
    assert_eq!(proven["object"], started["object"]);
    let answered = of_read("answered").next().expect("the answer to the kernel");
    assert!(answered["bytes"].as_u64().unwrap() > 0 && answered["unique"].as_u64().unwrap() > 0, "{answered}");

    // The mount itself has such a chain: from the client to the registry.
    let opened = said("the image is open").next().expect("the opening");
    assert!(opened["client"].as_u64().unwrap() > 0, "{opened}");
    assert!(said("has an answer").any(|record| record["client"] == opened["client"]), "the meta was asked for");
    scratch.ok(&["umount", target]);
}

#[test]
fn privileged_credentials_and_tokens_never_appear_in_records() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let (registry, directory) = served(&scratch);
    registry.want_tokens();
    let (image, target) = (registry.reference(TAG), directory.to_str().unwrap());
    // "alice:correct-horse-battery"
    let encoded = "YWxpY2U6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5";
    let auth = json!({ "auths": { registry.host(): { "auth": encoded } } });
    fs::write(scratch.path("auth.json"), auth.to_string()).unwrap();
    let file = scratch.path("auth.json");
    let all = ["--authfile", file.to_str().unwrap(), "--log-level", "trace", "--log-format", "json"];
    let read = scratch.output(&[&all[..], &["cat", &image, "small"]].concat());
    assert!(read.status.success(), "{}", both(&read));
    scratch.ok(&[&all[..], &["mount", &image, target]].concat());
    let _taken_away = Unmount(&directory);
    assert!(fs::read(directory.join("big")).unwrap() == noise(7, BIG));
    assert!(registry.count(RequestKind::Token) >= 2, "the server asked for a token, too");

    let told = String::from_utf8(read.stderr).unwrap();
    for records in [told, format!("{:?}", records(&scratch))] {
        assert!(records.contains("asks for a token"), "{records}");
        for secret in [SECRET, encoded, "a-token-for-everybody", "Basic ", "scope="] {
            assert!(!records.contains(secret), "{secret} in {records}");
        }
    }
    scratch.ok(&["umount", target]);
}

#[test]
fn privileged_flights_tell_which_source_a_reader_waits_for() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let (registry, directory) = served(&scratch);
    let (image, target) = (registry.reference(TAG), directory.to_str().unwrap());
    scratch.ok(&["mount", &image, target]);
    let _taken_away = Unmount(&directory);
    let list = || -> Value { serde_json::from_str(&scratch.ok(&["debug", "flights", "--format", "json"])).unwrap() };
    assert_eq!(list(), json!({ "flights": [], "total": 0 }));
    registry.script(RequestKind::Pack, Fault::Hang);
    let big = directory.join("big");
    let reader = std::thread::spawn(move || fs::read(big));
    let waiting = until(list, |list| list["flights"][0]["attempts"].as_u64() > Some(0));
    let flight = &waiting["flights"][0];
    assert_eq!((&flight["state"], flight["waiters"].as_u64() > Some(0)), (&json!("source"), true), "{waiting}");
    assert!(flight["source"].as_str().unwrap().contains(&registry.host()), "{waiting}");
    assert!(flight["object"].as_str().unwrap().starts_with("chunk:blake3:"), "{waiting}");
    let text = scratch.ok(&["debug", "flights"]);
    assert!(text.contains("the source, last asked docker://") && text.contains("FLIGHT"), "{text}");
    registry.heal();
    assert!(reader.join().unwrap().unwrap() == noise(7, BIG));
    until(list, |list| list["total"] == 0);
    assert_eq!(scratch.ok(&["debug", "flights"]), "no reader waits for a chunk\n");
    scratch.ok(&["umount", target]);
}

#[test]
fn the_environment_says_how_much_is_recorded_and_a_wrong_word_is_refused() {
    let scratch = Scratch::new();
    write_layout(&scratch.path("source"), vec![Layer::default().file("a", 0o644, b"content")], json!({}));
    let words = ["convert", &scratch.image("source"), &scratch.image("image")];
    let with = |level: &str, format: &str| {
        scratch.dimsum(&words).env("DIMSUM_LOG", level).env("DIMSUM_LOG_FORMAT", format).output().unwrap()
    };
    let told = with("debug", "json");
    let told = String::from_utf8(told.stderr).unwrap();
    let records: Vec<Value> = told.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(records.iter().any(|record| record["message"] == "reads the layer" && record["layer"] == 0), "{told}");
    assert!(!both(&with("", "")).contains("reads the layer"));
    let refused = with("loud", "");
    assert_eq!(refused.status.code(), Some(2), "{}", both(&refused));
    assert!(both(&refused).contains("DIMSUM_LOG") && both(&refused).contains("next: set it to"), "{}", both(&refused));
}

/// Looks until something is so.
fn until(look: impl Fn() -> Value, is: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let seen = look();
        if is(&seen) {
            return seen;
        }
        assert!(start.elapsed() < PATIENCE, "{seen}");
        std::thread::yield_now();
    }
}

/// Takes a mount away if the test failed before it did.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        let _not_mounted = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
    }
}
