//! Independent clients pull what we push, and push what we pull.

use std::process::Command;

use dimsum_format::Digest;
use dimsum_layout::OciLayout;
use dimsum_registry::Access;
use dimsum_source::{ImageName, Place as _};
use tempfile::TempDir;

use crate::content::Image;
use crate::real::{KINDS, find, network};

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn skopeo_reads_and_writes_what_we_do() {
    let Some(skopeo) = find("skopeo", true) else { return };
    for registry in KINDS.into_iter().filter_map(|kind| kind.start()) {
        let image = Image::new(1);
        let network = network(Access::default());
        image.push(&*network.create(&registry.reference("ours/a:v1")).unwrap());
        let dir = TempDir::new().unwrap();
        let copied = format!("oci:{}:v1", dir.path().display());
        let ours = format!("docker://{}/ours/a:v1", registry.host);
        run(Command::new(&skopeo).args(["copy", "--preserve-digests", "--src-tls-verify=false", &ours, &copied]));
        let layout = OciLayout::open(dir.path(), Some(ImageName::Tag("v1".into()))).unwrap();
        assert_eq!(Digest::of(&layout.root().unwrap().bytes), image.digest());
        let theirs = format!("docker://{}/theirs/a:v1", registry.host);
        run(Command::new(&skopeo).args(["copy", "--preserve-digests", "--dest-tls-verify=false", &copied, &theirs]));
        image.compare(&*network.open(&registry.reference("theirs/a:v1")).unwrap());
    }
}

#[test]
fn crane_reads_and_writes_what_we_do() {
    let Some(crane) = find("crane", false) else { return };
    for registry in KINDS.into_iter().filter_map(|kind| kind.start()) {
        let image = Image::new(2);
        let network = network(Access::default());
        image.push(&*network.create(&registry.reference("ours/a:v1")).unwrap());
        let (ours, theirs) = (format!("{}/ours/a:v1", registry.host), format!("{}/theirs/a:v1", registry.host));
        assert_eq!(run(Command::new(&crane).args(["digest", &ours])).trim(), image.digest().to_string());
        run(Command::new(&crane).args(["validate", "--remote", &ours, "--fast"]));
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("layout").display().to_string();
        run(Command::new(&crane).args(["pull", "--format=oci", &ours, &path]));
        run(Command::new(&crane).args(["push", &path, &theirs]));
        image.compare(&*network.open(&registry.reference("theirs/a:v1")).unwrap());
    }
}
