//! Whatever the bytes are, nothing panics or runs for ever, and what the validator accepts can be read to the end.

use dimsum_erofs::ondisk::{BLOCK_LEN, SUPERBLOCK_OFFSET, Superblock};
use dimsum_erofs::{Bounds, ErofsError, ErofsImage, ErofsInode, ImageKind, OutOfRange, ToTreeError, to_tree, validate};
use dimsum_tree::{ContentId, FileType, Metadata, NodeKind, Tree, TreeBuilder};
use proptest::prelude::*;
use zerocopy::FromBytes;

use crate::common::{Files, Written, plain_metadata, write, xattr};
use crate::generate;
use crate::roundtrip::dump;

/// Makes the superblock's checksum right again, so that damage gets behind it.
pub(crate) fn fix_checksum(meta: &mut [u8]) {
    let (superblock, behind) = Superblock::mut_from_prefix(&mut meta[SUPERBLOCK_OFFSET..BLOCK_LEN]).unwrap();
    superblock.checksum = superblock.checksum_with(behind).into();
}

/// A tree of a few blocks with something of every kind.
pub(crate) fn small() -> (Tree, Files) {
    let mut tree = TreeBuilder::new();
    let mut files = Files::default();
    let root = TreeBuilder::ROOT;
    let base = plain_metadata();
    let xattrs = [xattr("user.shared", b"s"), xattr("security.capability", &[1; 20])];
    let own = [xattr("user.shared", b"s"), xattr("user.own", b"o")];
    let dir = tree.insert(root, b"dir", NodeKind::Directory, &Metadata { xattrs: &xattrs, ..base }).unwrap();
    tree.insert(dir, b"sub", NodeKind::Directory, &base).unwrap();
    let plain = NodeKind::Regular { size: 5000, content: files.plain(5000) };
    let plain = tree.insert(dir, b"plain", plain, &Metadata { xattrs: &own, uid: 70_000, ..base }).unwrap();
    tree.link(root, b"plain2", plain).unwrap();
    let content = files.add(&[(64, true), (64, false), (3, true)]);
    tree.insert(root, b"map", NodeKind::Regular { size: 131 * 4096 - 7, content }, &base).unwrap();
    tree.insert(root, b"link", NodeKind::Symlink { target: b"dir/plain" }, &base).unwrap();
    tree.insert(root, b"longlink", NodeKind::Symlink { target: &[b'l'; 3500] }, &base).unwrap();
    tree.insert(root, b"null", NodeKind::CharDevice(dimsum_tree::DeviceNumber { major: 1, minor: 3 }), &base).unwrap();
    tree.insert(root, b"empty", NodeKind::Regular { size: 0, content: files.add(&[]) }, &base).unwrap();
    let large = tree.insert(root, b"large", NodeKind::Directory, &base).unwrap();
    for n in 0..20 {
        tree.insert(large, format!("{n:02}{}", "n".repeat(240)).as_bytes(), NodeKind::Fifo, &base).unwrap();
    }
    (tree.finish().unwrap(), files)
}

pub(crate) fn check(meta: &[u8], written: &Written) -> Result<dimsum_erofs::ValidationSummary, ErofsError<OutOfRange>> {
    let devices = [written.data_blocks];
    validate(&meta.to_vec(), Bounds { meta_blocks: written.meta_blocks(), devices: &devices, kind: ImageKind::Image })
}

/// Uses every operation on every name within reach; returns the first error.
fn read_everything(meta: &[u8]) -> Result<(), ErofsError<OutOfRange>> {
    let image = ErofsImage::open(meta)?;
    let mut todo = vec![image.root()?];
    let mut seen = 0;
    let mut first = Ok(());
    while let Some(inode) = todo.pop() {
        seen += 1;
        if let Err(error) = read_one(&image, &inode, &mut todo) {
            first = first.and(Err(error));
        }
        if seen > 200 {
            break;
        }
    }
    first
}

fn read_one(
    image: &ErofsImage<&[u8]>,
    inode: &ErofsInode,
    todo: &mut Vec<ErofsInode>,
) -> Result<(), ErofsError<OutOfRange>> {
    for xattr in image.xattrs(inode)? {
        assert!(image.xattr(inode, &xattr.name)?.is_some());
    }
    match inode.file_type() {
        FileType::Symlink => image.read_link(inode).map(drop),
        FileType::Regular => {
            let mut offset = 0;
            for _ in 0..20 {
                let Some(extent) = image.map(inode, offset)? else { break };
                assert!(extent.len > 0 && offset + extent.len <= inode.size());
                offset += extent.len;
            }
            image.map(inode, u64::MAX).map(drop)
        }
        FileType::Directory => {
            let mut names = image.read_dir(inode, 0)?;
            while let Some(entry) = names.next_entry()? {
                image.lookup(inode, entry.name)?;
                if entry.name != b"." && entry.name != b".." {
                    todo.push(image.inode(entry.nid)?);
                }
            }
            image.lookup(inode, b"zzz").map(drop)
        }
        _ => Ok(()),
    }
}

/// The promise of this file, for one image.
fn must_hold(meta: &[u8], written: &Written, what: impl std::fmt::Display) {
    let valid = check(meta, written);
    let read = read_everything(meta);
    let tree = ErofsImage::open(meta).ok().map(|image| to_tree(&image, |_| ContentId::new(0)));
    if valid.is_ok() {
        assert!(read.is_ok(), "{what}: accepted, but {read:?}");
        // A tree has limits of its own, such as for user ids.
        assert!(matches!(tree, Some(Ok(_) | Err(ToTreeError::Inode { .. }))), "{what}: accepted, but {tree:?}");
    }
}

#[test]
fn the_small_image_is_valid() {
    let (tree, files) = small();
    let written = write(&tree, &files, ImageKind::Image);
    check(&written.meta, &written).unwrap();
    read_everything(&written.meta).unwrap();
    assert!(written.meta.len() <= 5 * BLOCK_LEN, "small enough to flip every byte");
}

#[test]
fn no_flipped_byte_panics_or_fools_the_validator() {
    let (tree, files) = small();
    let written = write(&tree, &files, ImageKind::Image);
    for place in 0..written.meta.len() {
        for flip in [0x01, 0xff] {
            let mut meta = written.meta.clone();
            meta[place] ^= flip;
            if (SUPERBLOCK_OFFSET..BLOCK_LEN).contains(&place) {
                assert!(check(&meta, &written).is_err(), "the checksum covers byte {place}");
                fix_checksum(&mut meta);
            }
            must_hold(&meta, &written, format_args!("byte {place} ^ {flip:#x}"));
        }
    }
}

#[test]
fn no_truncated_image_panics_or_is_accepted() {
    let (tree, files) = small();
    let written = write(&tree, &files, ImageKind::Image);
    for length in (0..written.meta.len()).step_by(61).chain([BLOCK_LEN, 2 * BLOCK_LEN]) {
        assert!(check(&written.meta[..length], &written).is_err());
        must_hold(&written.meta[..length], &written, length);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_tree_survives_the_way_there_and_back((tree, files) in generate::tree()) {
        let written = write(&tree, &files, ImageKind::Image);
        let image = ErofsImage::open(&written.meta).unwrap();
        prop_assert_eq!(dump(&to_tree(&image, |_| ContentId::new(0)).unwrap()), dump(&tree));
        let summary = check(&written.meta, &written).unwrap();
        prop_assert_eq!(summary.inodes, tree.len() as u64);
        prop_assert_eq!(summary.names, tree.entry_count() as u64);
        read_everything(&written.meta).unwrap();
    }

    #[test]
    fn no_words_in_any_places_panic_or_fool_the_validator(
        words in prop::collection::vec((0usize..5 * BLOCK_LEN / 2, any::<u16>()), 1..6),
    ) {
        let (tree, files) = small();
        let written = write(&tree, &files, ImageKind::Image);
        let mut meta = written.meta.clone();
        for &(place, word) in &words {
            if let Some(bytes) = meta.get_mut(place * 2..place * 2 + 2) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
        }
        fix_checksum(&mut meta);
        must_hold(&meta, &written, format_args!("{words:?}"));
    }
}
