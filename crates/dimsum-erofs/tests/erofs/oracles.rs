//! Others that know EROFS read our images as we do.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Command;

use dimsum_erofs::ImageKind;
use dimsum_tree::{FileType, TreeBuilder};
use erofs_rs::EroFS;
use erofs_rs::backend::SliceImage;

use crate::common::{Files, content, layout, places, skip, write, zoo};

#[test]
fn fsck_erofs_finds_nothing() {
    let (tree, files) = zoo();
    let only_root = (TreeBuilder::new().finish().unwrap(), Files::default());
    for (tree, files) in [(tree, files), only_root] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&write(&tree, &files, ImageKind::Image).flat()).unwrap();
        let Ok(output) = Command::new("fsck.erofs").arg("-d9").arg(file.path()).output() else {
            return skip("fsck.erofs");
        };
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        assert!(!text.contains("<E>") && !text.contains("<W>"), "{text}");
    }
}

#[test]
fn the_erofs_rs_crate_reads_the_same() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let flat = written.flat();
    let planned = layout(&tree, &files, ImageKind::Image);
    let fs = EroFS::new(SliceImage::new(&flat)).unwrap();
    let names: BTreeMap<_, _> = fs
        .walk_dir("/")
        .unwrap()
        .map(|entry| entry.unwrap().dir_entry)
        .map(|entry| (entry.path().as_bytes().to_vec(), entry.nid()))
        .collect();
    let expected = tree.dump().skip(1).map(|entry| ([b"/", &*entry.path].concat(), planned.nid(entry.id))).collect();
    assert_eq!(names, expected);
    for entry in tree.dump() {
        let (inode, theirs) = (entry.inode, fs.get_inode(planned.nid(entry.id)).unwrap());
        let mode = u32::from(inode.file_type().mode_bits() | inode.permissions());
        let their_mode =
            theirs.file_type().as_raw_mode() | std::os::unix::fs::PermissionsExt::mode(&theirs.permissions());
        assert_eq!(their_mode, mode, "{entry}");
        assert_eq!((theirs.uid(), theirs.gid(), theirs.nlink()), (inode.uid(), inode.gid(), inode.nlink()), "{entry}");
        assert_eq!(theirs.modified_unix(), (inode.mtime().seconds, inode.mtime().nanoseconds), "{entry}");
        if matches!(inode.file_type(), FileType::CharDevice | FileType::BlockDevice) {
            assert_eq!(theirs.device(), Some((inode.rdev().major, inode.rdev().minor)), "{entry}");
        }
        let xattrs: BTreeMap<_, _> =
            entry.xattrs.iter().map(|xattr| (xattr.name.to_vec(), xattr.value.to_vec())).collect();
        assert_eq!(fs.xattrs_inode(theirs).unwrap(), xattrs, "{entry}");
        match inode.file_type() {
            FileType::Symlink => assert_eq!(fs.read_link_inode(theirs).unwrap().as_bytes(), entry.target, "{entry}"),
            FileType::Regular => {
                let runs = &files.runs[inode.content().unwrap().get() as usize];
                let file = fs.open_inode_file(theirs).unwrap();
                assert_eq!(file.size(), inode.size());
                for place in places(runs, inode.size()) {
                    let mut got = [0; 300];
                    let length = file.read_at(&mut got, place).unwrap();
                    assert!(length > 0);
                    let expected = content(runs, inode.size(), written.meta_blocks().into(), place, length as u64);
                    assert_eq!(&got[..length], expected, "{entry} at {place}");
                }
            }
            _ => {}
        }
    }
}
