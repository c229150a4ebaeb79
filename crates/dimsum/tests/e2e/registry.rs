//! Images in a real registry (Debian's docker-registry on a loopback port), seen by skopeo as well.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use dimsum_format::Digest;
use dimsum_testing::program_or_skip;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Layer, Scratch, both, busybox, privileged, write_layout};

/// How long the registry may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);

/// A registry that ends with the test.
pub(crate) struct Registry {
    process: Child,
    config: std::path::PathBuf,
    address: String,
}

impl Registry {
    /// Starts one, or says why there is none.
    pub(crate) fn start(scratch: &Scratch) -> Option<Self> {
        if !program_or_skip("docker-registry") {
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let config = scratch.path("registry.yml");
        let blobs = scratch.path("registry");
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            blobs.display()
        );
        fs::write(&config, text).unwrap();
        let process = Self::spawn(&config, &address);
        Some(Self { process, config, address })
    }

    fn spawn(config: &Path, address: &str) -> Child {
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(start.elapsed() < PATIENCE, "docker-registry does not listen");
            std::thread::yield_now();
        }
        process
    }

    fn stop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.process = Self::spawn(&self.config, &self.address);
    }

    /// Lets it take nothing any more.
    fn refuse_pushes(&mut self) {
        self.stop();
        let text = fs::read_to_string(&self.config).unwrap();
        let text = text.replace("storage: {", "storage: {maintenance: {readonly: {enabled: true}}, ");
        fs::write(&self.config, text).unwrap();
        self.start_again();
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Puts the ordinary image of a layout there, with a program that is not ours.
    pub(crate) fn push(&self, layout: &str, name: &str) {
        skopeo(&["copy", "-q", "--dest-tls-verify=false", layout, &format!("docker://{}", self.image(name))]);
    }

    /// Returns the bytes of an image's layers.
    fn bytes(&self, name: &str) -> u64 {
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", self.image(name))]);
        let manifest: Value = serde_json::from_slice(&raw).unwrap();
        manifest["layers"].as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum()
    }

    /// Returns the digest that skopeo sees.
    fn digest(&self, name: &str) -> Digest {
        let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{}", self.image(name))]);
        Digest::of(&raw)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

pub(crate) fn skopeo(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("skopeo").arg("--insecure-policy").args(arguments).output().unwrap();
    assert!(output.status.success(), "skopeo {arguments:?}\n{}", both(&output));
    output.stdout
}

fn ordinary(scratch: &Scratch, name: &str) -> String {
    let process = json!({ "Cmd": ["cat", "/etc/motd"] });
    let upper = Layer::default().file("etc/motd", 0o644, b"hello from a registry\n").fifo("tmp/pipe");
    write_layout(&scratch.path(name), vec![busybox(), upper], process);
    scratch.image(name)
}

#[test]
fn privileged_an_image_is_converted_in_a_registry_and_run_from_there() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    registry.push(&ordinary(&scratch, "source"), "app:v1");
    let (plain, converted) = (registry.image("app:v1"), registry.image("app:v1-dimsum"));
    let told: Value = serde_json::from_str(&scratch.ok(&["convert", &plain, &converted, "--format", "json"])).unwrap();
    let digest = told["manifest"].as_str().unwrap();
    assert_eq!(registry.digest("app:v1-dimsum").to_string(), digest);

    assert_eq!(scratch.ok(&["run", &converted]), "hello from a registry\n");
    assert_eq!(scratch.ok(&["run", "--fill", &converted]), "hello from a registry\n");
    assert_eq!(scratch.ok(&["cat", &converted, "/etc/motd"]), "hello from a registry\n");
    scratch.ok(&["check", &converted, "--data", "--against", &plain]);

    let tagged = scratch.output(&["run", "--require-digest", &converted]);
    assert_eq!(tagged.status.code(), Some(2), "{}", both(&tagged));
    let pinned = format!("{}@{digest}", registry.image("app"));
    assert_eq!(scratch.ok(&["run", "--require-digest", &pinned]), "hello from a registry\n");

    let missing = scratch.output(&["run", &registry.image("app:v2")]);
    assert_eq!(missing.status.code(), Some(1), "{}", both(&missing));
    assert!(both(&missing).contains("v2"), "{}", both(&missing));
}

#[test]
fn privileged_an_ordinary_image_of_a_registry_starts_again_without_it() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let Some(mut registry) = Registry::start(&scratch) else { return };
    registry.push(&ordinary(&scratch, "source"), "app:v1");
    let image = registry.image("app:v1");
    assert_eq!(scratch.ok(&["run", &image]), "hello from a registry\n");
    assert_eq!(fs::read_dir(scratch.store().join("incoming")).unwrap().count(), 0);
    registry.stop();
    assert_eq!(scratch.ok(&["run", &image]), "hello from a registry\n");
    let other = scratch.output(&["run", &registry.image("app:v9")]);
    assert_eq!(other.status.code(), Some(1), "{}", both(&other));
    assert!(both(&other).contains("next: "), "{}", both(&other));
    registry.start_again();
    assert_eq!(scratch.ok(&["run", &image]), "hello from a registry\n");
}

/// A way to the registry that carries so many bytes to clients and then holds the rest back.
struct Way {
    address: String,
    carried: Arc<AtomicU64>,
    /// Told when the limit is reached.
    full: Receiver<()>,
}

impl Way {
    fn new(registry: &Registry, limit: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let carried = Arc::new(AtomicU64::new(0));
        let (tell, full) = channel();
        let (to, count) = (registry.address.clone(), Arc::clone(&carried));
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let server = TcpStream::connect(&to).unwrap();
                let (mut up, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || drop(std::io::copy(&mut up, &mut to_server)));
                let (count, tell) = (Arc::clone(&count), tell.clone());
                std::thread::spawn(move || carry(server, client, &count, limit, &tell));
            }
        });
        Self { address, carried, full }
    }

    fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64, limit: u64, tell: &Sender<()>) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            return;
        }
        if count.fetch_add(length as u64, Ordering::SeqCst) + length as u64 >= limit {
            if tell.send(()).is_err() {
                return;
            }
            // The connection stays open, and nothing comes any more.
            loop {
                std::thread::park();
            }
        }
    }
}

#[test]
fn privileged_an_interrupted_start_goes_on_where_it_stopped() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    registry.push(&ordinary(&scratch, "source"), "app:v1");
    let slow = Way::new(&registry, 600_000);
    let mut first = scratch.dimsum(&["run", "--plain-http", &slow.image("app:v1")]);
    let first = first.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    slow.full.recv_timeout(PATIENCE).unwrap();
    let left = || -> u64 {
        let files = fs::read_dir(scratch.store().join("incoming")).into_iter().flatten();
        files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    // What the way has carried is on its way into the file.
    let start = Instant::now();
    while left() < 100_000 {
        assert!(start.elapsed() < PATIENCE, "nothing is kept");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&first), Signal::INT).unwrap();
    let ended = first.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", both(&ended));
    let left = left();
    let open = Way::new(&registry, u64::MAX);
    assert_eq!(scratch.ok(&["run", "--plain-http", &open.image("app:v1")]), "hello from a registry\n");
    let (carried, whole) = (open.carried.load(Ordering::SeqCst), registry.bytes("app:v1"));
    // Headers, manifest and config are some KiB.
    assert!(carried < whole - left / 2, "{carried} of {whole}, {left} were there");
    assert_eq!(fs::read_dir(scratch.store().join("incoming")).unwrap().count(), 0);
}

#[test]
fn privileged_a_filled_image_needs_its_registry_no_more() {
    if !privileged() {
        return;
    }
    let scratch = Scratch::new();
    let Some(mut registry) = Registry::start(&scratch) else { return };
    let source = ordinary(&scratch, "source");
    let image = registry.image("app:v1-dimsum");
    scratch.ok(&["convert", &source, &image]);
    scratch.ok(&["store", "fill", &image]);
    registry.stop();
    assert_eq!(scratch.ok(&["run", &image]), "hello from a registry\n");
}

#[test]
fn a_copy_moves_only_what_is_missing_and_keeps_every_digest() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    let source = ordinary(&scratch, "source");
    let copy = |from: &str, to: &str| -> Value {
        serde_json::from_str(&scratch.ok(&["copy", from, to, "--format", "json"])).unwrap()
    };
    scratch.ok(&["convert", &source, &scratch.image("converted")]);
    let first = copy(&scratch.image("converted"), &registry.image("app:d"));
    assert_eq!(registry.digest("app:d").to_string(), first["digest"].as_str().unwrap());
    assert!(first["blobs_moved"].as_u64().unwrap() >= 3, "{first}");
    let again = copy(&scratch.image("converted"), &registry.image("app:d"));
    assert_eq!(again["blobs_moved"], 0, "{again}");
    let mounted = copy(&registry.image("app:d"), &registry.image("other:d"));
    assert_eq!((&mounted["blobs_moved"], &mounted["blobs_mounted"]), (&json!(0), &first["blobs_moved"]), "{mounted}");
    let archive = format!("oci-archive:{}:{}", scratch.path("archive.tar").display(), "test");
    assert_eq!(copy(&registry.image("other:d"), &archive)["digest"], first["digest"]);
    assert_eq!(copy(&archive, &scratch.image("back"))["digest"], first["digest"]);
    scratch.ok(&["check", &scratch.image("back"), "--data", "--against", &source]);
    // A program that is not ours reads what we wrote.
    let seen = skopeo(&["inspect", "--raw", &archive]);
    assert_eq!(Digest::of(&seen).to_string(), first["digest"].as_str().unwrap());
}

#[test]
fn an_index_keeps_its_shape_and_its_twins_are_found() {
    let scratch = Scratch::new();
    let Some(registry) = Registry::start(&scratch) else { return };
    registry.push(&ordinary(&scratch, "source"), "app:v1");
    let (plain, both_of) = (registry.image("app:v1"), registry.image("app:both"));
    scratch.ok(&["convert", &plain, &both_of, "--with-original"]);
    let raw = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{both_of}")]);
    let index: Value = serde_json::from_slice(&raw).unwrap();
    let manifests = index["manifests"].as_array().unwrap();
    assert_eq!(manifests.len(), 2, "{index}");
    // First the original, which other programs take; then its twin, which we take.
    assert_eq!(manifests[0]["digest"], registry.digest("app:v1").to_string());
    let twin: Value = serde_json::from_str(&scratch.ok(&["inspect", &both_of, "--format", "json"])).unwrap();
    assert_eq!(twin["manifest"], manifests[1]["digest"]);
}

#[test]
fn an_export_is_an_ordinary_image_with_the_same_tree() {
    let scratch = Scratch::new();
    let source = ordinary(&scratch, "source");
    scratch.ok(&["convert", &source, &scratch.image("converted")]);
    for (name, options) in [("layers", &[][..]), ("flat", &["--flatten"][..])] {
        let (from, to) = (scratch.image("converted"), scratch.image(name));
        scratch.ok(&[&["export", &from, &to][..], options].concat());
        scratch.ok(&["check", &from, "--against", &to]);
        let raw = skopeo(&["inspect", "--config", &to]);
        let config: Value = serde_json::from_slice(&raw).unwrap();
        assert_eq!(config["config"]["Cmd"], json!(["cat", "/etc/motd"]));
    }
}

#[test]
fn privileged_a_registry_that_takes_no_pushes_is_found_before_the_work() {
    let scratch = Scratch::new();
    let Some(mut registry) = Registry::start(&scratch) else { return };
    write_layout(&scratch.path("source"), vec![Layer::default().file("a", 0o644, b"content")], json!({}));
    let (source, image) = (scratch.image("source"), scratch.image("image"));
    scratch.ok(&["convert", &source, &image]);
    registry.refuse_pushes();
    let target = registry.image("app:v1");
    for words in [["convert", &source, &target], ["export", &image, &target], ["copy", &image, &target]] {
        let output = scratch.output(&words);
        let text = both(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("beginning an upload: status 405"), "{text}");
        assert!(text.contains("next: check that this registry takes pushes") && !text.contains("ing: layer"), "{text}");
    }
}
