//! The example of a container runs, with nothing but the engine.

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../examples/run.rs"]
mod example;

use std::fs;
use std::os::unix::fs::symlink;

use dimsum_engine::container::signal_channel;
use dimsum_engine::{Engine, EngineConfig};
use dimsum_testing::{path_or_skip, program_or_skip, root_or_skip};

/// A statically linked program with a shell in it.
const BUSYBOX: &str = "/bin/busybox";

#[test]
fn privileged_a_third_party_runs_a_container_with_the_engine_alone() {
    if !(root_or_skip() && path_or_skip(BUSYBOX) && program_or_skip("runc") && path_or_skip("/dev/fuse")) {
        return;
    }
    // Not /tmp: overlayfs cannot write to every file system that is found there.
    let scratch = tempfile::Builder::new().prefix("dimsum-engine-").tempdir_in("/var/tmp").unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    for directory in ["tree/bin", "tree/etc"] {
        fs::create_dir_all(path(directory)).unwrap();
    }
    fs::copy(BUSYBOX, path("tree/bin/busybox")).unwrap();
    symlink("busybox", path("tree/bin/sh")).unwrap();
    fs::write(path("tree/hello"), "proven\n").unwrap();
    let image = format!("oci:{}:v1", path("images"));
    let engine = Engine::new(EngineConfig::new(path("store"), path("node.key")));
    engine.convert_directory(path("tree").as_ref(), &image).unwrap();
    let script = "read word < /hello; test $word = proven || exit 1; echo new > /new || exit 2; exit 7";
    let command = ["/bin/sh", "-c", script].map(str::to_owned);
    let (_sender, signals) = signal_channel().unwrap();
    let end = example::run(&image, &path(""), &command, &signals).unwrap();
    assert_eq!(end.exit_status, 7);
    let left: Vec<_> = fs::read_dir(path("store/run")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| !path.is_dir()), "{left:?}");
    assert!(!scratch.path().join("tree/new").exists());
}
