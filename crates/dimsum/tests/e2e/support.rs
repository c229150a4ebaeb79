//! A small ordinary image, made here, and the built program with places of its own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dimsum_format::{Digest, media};
use dimsum_testing::{path_or_skip, program_or_skip, root_or_skip};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The tag of images made here.
pub(crate) const TAG: &str = "test";

/// A layer as an uncompressed tar.
#[derive(Default)]
pub(crate) struct Layer(Vec<u8>);

impl Layer {
    pub(crate) fn dir(self, path: &str, mode: u32) -> Self {
        self.entry(path, b'5', mode, "", b"")
    }

    pub(crate) fn file(self, path: &str, mode: u32, bytes: &[u8]) -> Self {
        self.entry(path, b'0', mode, "", bytes)
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, b'2', 0o777, target, b"")
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.entry(path, b'1', 0o644, target, b"")
    }

    pub(crate) fn fifo(self, path: &str) -> Self {
        self.entry(path, b'6', 0o644, "", b"")
    }

    fn entry(mut self, path: &str, kind: u8, mode: u32, link: &str, bytes: &[u8]) -> Self {
        let mut header = [0_u8; 512];
        let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, path);
        put(100, &format!("{mode:07o}"));
        put(108, "0000000");
        put(116, "0000000");
        put(124, &format!("{:011o}", bytes.len()));
        put(136, &format!("{:011o}", 1_700_000_000));
        put(148, "        ");
        put(157, link);
        put(257, "ustar\x0000");
        header[156] = kind;
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn tar(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

/// Writes an OCI layout with one image and returns the digest of its manifest.
pub(crate) fn write_layout(dir: &Path, layers: Vec<Layer>, process: Value) -> Digest {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let put = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        (digest, bytes.len())
    };
    let layers: Vec<_> = layers.into_iter().map(|layer| put(&layer.tar())).collect();
    let diff_ids: Vec<_> = layers.iter().map(|layer| layer.0).collect();
    let arch = dimsum_source::host_platform().architecture;
    let config = json!({ "architecture": arch, "os": "linux", "config": process,
        "rootfs": { "type": "layers", "diff_ids": diff_ids } });
    let config = put(config.to_string().as_bytes());
    let describe =
        |kind: &str, (digest, size): (Digest, usize)| json!({ "mediaType": kind, "digest": digest, "size": size });
    let manifest = json!({ "schemaVersion": 2, "mediaType": media::MANIFEST, "config": describe(media::CONFIG, config),
        "layers": layers.iter().map(|layer| describe(media::LAYER_TAR, *layer)).collect::<Vec<_>>() });
    let manifest = put(manifest.to_string().as_bytes());
    let mut named = describe(media::MANIFEST, manifest);
    named["annotations"] = json!({ media::ANNOTATION_REF_NAME: TAG });
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(dir.join("index.json"), json!({ "schemaVersion": 2, "manifests": [named] }).to_string()).unwrap();
    manifest.0
}

/// A scratch directory with a store, a node key and what a test puts there.
pub(crate) struct Scratch {
    dir: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        // Not /tmp: overlayfs cannot write to every file system that is found there.
        Self { dir: tempfile::Builder::new().prefix("dimsum-test-").tempdir_in("/var/tmp").unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.path("store")
    }

    pub(crate) fn image(&self, name: &str) -> String {
        format!("oci:{}:{TAG}", self.path(name).display())
    }

    /// The built program, called as a user would.
    pub(crate) fn dimsum<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dimsum"));
        command.args(arguments).env("DIMSUM_STORE", self.store()).env("DIMSUM_NODE_KEY", self.path("node.key"));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        self.dimsum(arguments).output().unwrap()
    }

    /// Runs a command that must succeed and returns its standard output.
    pub(crate) fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{:?}\n{}", output.status, both(&output));
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Both streams of a finished command, for messages.
pub(crate) fn both(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Whether tests that need root can run; else the test is skipped.
pub(crate) fn privileged() -> bool {
    root_or_skip() && path_or_skip("/dev/fuse") && path_or_skip(BUSYBOX) && program_or_skip("runc")
}

/// A statically linked program with a shell in it.
const BUSYBOX: &str = "/bin/busybox";

/// A root file system that can run a shell.
pub(crate) fn busybox() -> Layer {
    let program = fs::read(BUSYBOX).unwrap();
    let mut layer = Layer::default().dir("bin", 0o755).file("bin/busybox", 0o755, &program);
    for applet in ["sh", "cat", "id", "ls", "sleep", "touch", "env", "pwd", "true", "kill", "dd", "wc"] {
        layer = layer.symlink(&format!("bin/{applet}"), "busybox");
    }
    layer
        .dir("etc", 0o755)
        .file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\napp:x:1234:1235::/home/app:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\napp:x:1235:\nextra:x:77:app\n")
        .dir("tmp", 0o1777)
}
