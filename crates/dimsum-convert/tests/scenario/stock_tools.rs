//! Two lines of stock tools read an image: `zstd -dc` and `fsck.erofs`.

use std::process::Command;

use crate::reader::read;
use crate::sources::{Case, noise, small_options};
use crate::tar::{dir, file, hard_link, symlink};

/// Says whether a program is there; on a developer's machine it may be missing, in CI not.
fn has(program: &str) -> bool {
    dimsum_testing::program_or_skip(program)
}

#[test]
fn zstd_and_fsck_read_an_image() {
    if !has("zstd") || !has("fsck.erofs") {
        return;
    }
    let mut first = vec![dir("many"), symlink("long", &"x/".repeat(40)), file("big", noise(700_000, 1))];
    first.extend((0..400).map(|i| file(&format!("many/{i:05}"), noise(i * 13, i as u64))));
    let mut holes = noise(900_000, 2);
    holes[70_000..400_000].fill(0);
    let case = Case::new(&[first, vec![hard_link("link", "big"), file("holes", holes), file("many/00007", "changed")]]);
    let converted = case.convert(&small_options());
    let image = read(&case.target(), converted.manifest);
    let path = |digest: dimsum_format::Digest| case.target().join("blobs/sha256").join(digest.hex());
    let parts = std::iter::once(image.dimsum.meta).chain(image.dimsum.packs.iter().copied());
    let flat = Command::new("zstd").arg("-dcq").args(parts.map(|part| path(part.digest))).output().unwrap();
    assert!(flat.status.success());
    assert!(flat.stdout == image.flat());
    let file = case.dir.path().join("image.erofs");
    std::fs::write(&file, &flat.stdout).unwrap();
    let fsck = Command::new("fsck.erofs").arg(&file).output().unwrap();
    assert!(fsck.status.success(), "{}", String::from_utf8_lossy(&fsck.stderr));
}
