//! Stock tools take an exported image: skopeo copies it, umoci unpacks it.

use std::path::Path;
use std::process::Command;

use dimsum_convert::export::{ExportMode, ExportOptions, LayerCompression};

use crate::image::{Layout, export_to};
use crate::round_trip::{XATTRS, gnu_tar, privileged_directory, upper_layers};
use crate::sources::{Case, Layer, small_options};
use crate::tar::Packing;
use crate::trees;

/// Returns whether the test can go on; where everything must run it fails instead.
fn met(what: &str, there: bool) -> bool {
    if !there {
        dimsum_testing::skip(what);
    }
    there
}

/// Needs to be root of the machine.
pub(crate) fn root() -> bool {
    met("root", rustix::process::geteuid().is_root())
}

fn has(program: &str) -> bool {
    met(program, Command::new(program).arg("--version").output().is_ok())
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn privileged_skopeo_copies_and_umoci_unpacks_the_identical_tree() {
    if !root() || !has("skopeo") || !has("umoci") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    privileged_directory(place.path());
    let mut layers = vec![gnu_tar(place.path(), XATTRS)];
    layers.extend(upper_layers().iter().map(|entries| Layer::new(entries, Packing::Zstd)));
    let case = Case::of(layers);
    let converted = case.convert(&small_options());
    let image = Layout::open(&case.target(), converted.manifest);
    let want = trees::of_image(&case.dir.path().join("source"), case.manifest);
    for mode in [ExportMode::PerLayer, ExportMode::Flatten] {
        let options = ExportOptions { mode, compression: LayerCompression::Gzip, ..ExportOptions::default() };
        let at = |what: &str| case.dir.path().join(format!("{what}-{mode:?}"));
        let exported = export_to(&image, &at("exported"), &options, &()).unwrap();
        let layout = |path: &Path| format!("oci:{}:out", path.display());
        run("skopeo", &["copy", "--preserve-digests", &layout(&at("exported")), &layout(&at("copied"))]);
        let unpacked = at("unpacked");
        let copied = format!("{}:out", at("copied").display());
        run("umoci", &["raw", "unpack", "--image", &copied, unpacked.to_str().unwrap()]);
        trees::assert_same(&trees::of_directory(&unpacked), &want, "umoci");
        assert_eq!(trees::of_image(&at("copied"), exported.manifest), want);
    }
}
