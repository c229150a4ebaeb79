//! The bytes of format version 1, for ever.

use std::path::{Path, PathBuf};
use std::{fs, io};

use dimsum_convert::{ConvertOptions, Input, convert};
use dimsum_layout::OciLayout;
use dimsum_source::{ImageName, Prefer, host_platform, resolve};

#[test]
fn golden_sources_give_the_golden_bytes() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden");
    for image in ["basic", "wide", "empty"] {
        let scratch = tempfile::tempdir().unwrap();
        let name = || Some(ImageName::Tag(image.to_owned()));
        let source = OciLayout::open(golden.join(format!("{image}-source")), name()).unwrap();
        let target = OciLayout::create(scratch.path(), name()).unwrap();
        let manifest = resolve(&source, &host_platform(), Prefer::Original).unwrap().descriptor.digest;
        // The encoder of the golden images, which are older than the default.
        let options = ConvertOptions { level: 3, ..ConvertOptions::default() };
        convert(Input::Image { source: &source, manifest }, &target, &options, &()).unwrap();

        let (made, kept) = (blobs(scratch.path()).unwrap(), blobs(&golden.join(image)).unwrap());
        let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(names(&made), names(&kept), "{image}");
        assert!(made == kept, "{image}: a blob has other bytes than its name says");
    }
}

fn blobs(layout: &Path) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let directory = layout.join("blobs/sha256");
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        found.push((path.file_name().unwrap_or_default().into(), fs::read(&path)?));
    }
    found.sort();
    Ok(found)
}
