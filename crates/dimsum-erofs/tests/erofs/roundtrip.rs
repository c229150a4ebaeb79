//! What is written is what is read.

use crate::common::{BLOCK, Files, Placed, layout, plain_metadata, write, xattr, zoo};
use dimsum_erofs::{ErofsImage, ErofsInode, ImageKind, to_tree};
use dimsum_tree::{ContentId, FileType, Metadata, NodeKind, Timestamp, Tree, TreeBuilder};

/// Everything the trees say, as text.
pub(crate) fn dump(tree: &Tree) -> Vec<String> {
    tree.dump().map(|entry| entry.to_string()).collect()
}

fn image(bytes: &[u8]) -> ErofsImage<&[u8]> {
    ErofsImage::open(bytes).expect("our own image opens")
}

/// Follows a path by lookups.
fn find(image: &ErofsImage<&[u8]>, path: &str) -> ErofsInode {
    path.split('/').fold(image.root().unwrap(), |dir, name| {
        let nid = image.lookup(&dir, name.as_bytes()).unwrap().expect(name);
        image.inode(nid).unwrap()
    })
}

#[test]
fn the_reader_gives_back_the_tree() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let read = to_tree(&image(&written.meta), |_| ContentId::new(0)).unwrap();
    assert_eq!(dump(&read), dump(&tree));
}

#[test]
fn equal_trees_are_equal_bytes() {
    let (tree, files) = zoo();
    let first = write(&tree, &files, ImageKind::Image);
    let again = TreeBuilder::from_tree(tree).finish().unwrap();
    assert_eq!(first.meta, write(&again, &files, ImageKind::Image).meta);
}

#[test]
fn an_image_of_only_a_root_is_one_block() {
    let tree = TreeBuilder::new().finish().unwrap();
    let written = write(&tree, &Files::default(), ImageKind::Image);
    assert_eq!(written.meta.len(), 4096);
    let image = image(&written.meta);
    assert_eq!(image.root_nid(), 36);
    assert_eq!(dump(&to_tree(&image, |_| ContentId::new(0)).unwrap()), dump(&tree));
}

#[test]
fn a_layer_keeps_whiteouts_and_opaque_directories() {
    let mut tree = TreeBuilder::new();
    let root = TreeBuilder::ROOT;
    tree.insert(root, b"gone", NodeKind::Whiteout, &plain_metadata()).unwrap();
    for name in [b"a", b"b"] {
        let xattrs = [xattr("user.x", b"1"), xattr("security.selinux", b"2")];
        let dir =
            tree.insert(root, name, NodeKind::Directory, &Metadata { xattrs: &xattrs, ..plain_metadata() }).unwrap();
        tree.set_opaque(dir, true);
    }
    tree.set_opaque(root, true);
    let tree = tree.finish().unwrap();
    let written = write(&tree, &Files::default(), ImageKind::Layer);
    let image = image(&written.meta);
    assert_eq!(dump(&to_tree(&image, |_| ContentId::new(0)).unwrap()), dump(&tree));
    assert_eq!(image.xattr(&find(&image, "a"), b"trusted.overlay.opaque").unwrap().as_deref(), Some(&b"y"[..]));
    let options = dimsum_erofs::ErofsOptions { slice_blocks_log2: 6, kind: ImageKind::Image };
    let refused = dimsum_erofs::ErofsLayout::plan(&tree, &Placed(&tree, &Files::default()), options);
    assert!(matches!(refused, Err(dimsum_erofs::PlanError::Overlay { .. })));
}

#[test]
fn the_root_moves_to_the_second_block_when_it_does_not_fit_the_first() {
    let mut tree = TreeBuilder::new();
    for n in 0..14 {
        tree.insert(
            TreeBuilder::ROOT,
            format!("{n:03}{}", "y".repeat(189)).as_bytes(),
            NodeKind::Fifo,
            &plain_metadata(),
        )
        .unwrap();
    }
    tree.insert(TreeBuilder::ROOT, &[b'z'; 100], NodeKind::Fifo, &plain_metadata()).unwrap();
    let tree = tree.finish().unwrap();
    let written = write(&tree, &Files::default(), ImageKind::Image);
    let image = image(&written.meta);
    assert_eq!(image.root_nid(), 128);
    assert_eq!(dump(&to_tree(&image, |_| ContentId::new(0)).unwrap()), dump(&tree));
}

#[test]
fn lookups_find_every_name_and_no_other() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let image = image(&written.meta);
    let planned = layout(&tree, &files, ImageKind::Image);
    for entry in tree.walk() {
        let parent = image.inode(planned.nid(entry.parent)).unwrap();
        assert_eq!(image.lookup(&parent, entry.name).unwrap(), Some(planned.nid(entry.inode)));
        for other in [[entry.name, b"\x01"].concat(), entry.name[..entry.name.len() - 1].to_vec(), b"~none".to_vec()] {
            let expected = tree.lookup(entry.parent, &other).map(|id| planned.nid(id));
            if other != b"." && other != b".." {
                assert_eq!(image.lookup(&parent, &other).unwrap(), expected, "{}", other.escape_ascii());
            }
        }
    }
}

#[test]
fn a_directory_can_be_read_on_from_every_cursor() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let image = image(&written.meta);
    for path in ["dir-40", "dir-exact", "names", "types/empty"] {
        let dir = find(&image, path);
        let mut names = Vec::new();
        let mut all = image.read_dir(&dir, 0).unwrap();
        while let Some(entry) = all.next_entry().unwrap() {
            names.push((entry.name.to_vec(), entry.next));
        }
        assert!(names.is_sorted());
        assert!(names.windows(2).all(|pair| pair[0].1 < pair[1].1));
        for (place, (_, next)) in names.iter().enumerate() {
            let mut rest = image.read_dir(&dir, *next).unwrap();
            let following = rest.next_entry().unwrap().map(|entry| entry.name.to_vec());
            assert_eq!(following, names.get(place + 1).map(|(name, _)| name.clone()));
        }
    }
}

#[test]
fn maps_say_where_each_byte_is() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let image = image(&written.meta);
    let base = u64::from(written.meta_blocks());
    for entry in tree.dump().filter(|entry| entry.inode.file_type() == FileType::Regular && entry.inode.size() > 0) {
        let inode = find(&image, std::str::from_utf8(&entry.path).unwrap());
        let mut offset = 0;
        let mut got = Vec::new();
        while let Some(extent) = image.map(&inode, offset).unwrap() {
            assert!(extent.len > 0);
            let middle = image.map(&inode, offset + extent.len / 2).unwrap().unwrap();
            assert_eq!(middle.flat, extent.flat.map(|flat| flat + extent.len / 2));
            push_run(&mut got, extent.flat.map(|flat| flat / BLOCK - base), extent.len.div_ceil(BLOCK));
            offset += extent.len;
        }
        assert_eq!(offset, entry.inode.size());
        let mut expected = Vec::new();
        for run in &files.runs[entry.inode.content().unwrap().get() as usize] {
            push_run(&mut expected, run.start, run.blocks);
        }
        assert_eq!(got, expected, "/{}", entry.path.escape_ascii());
    }
}

/// Joins runs as they come.
fn push_run(runs: &mut Vec<(Option<u64>, u64)>, start: Option<u64>, blocks: u64) {
    match runs.last_mut() {
        Some((None, length)) if start.is_none() => *length += blocks,
        Some((Some(last), length)) if start == Some(*last + *length) => *length += blocks,
        _ => runs.push((start, blocks)),
    }
}

#[test]
fn holes_are_found_by_seeking() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let image = image(&written.meta);
    let file = find(&image, "data/hole-in-the-middle");
    let slice = 262_144;
    assert_eq!(image.next_data(&file, 0).unwrap(), Some(0));
    assert_eq!(image.next_hole(&file, 5).unwrap(), Some(slice));
    assert_eq!(image.next_data(&file, slice + 7).unwrap(), Some(2 * slice));
    assert_eq!(image.next_hole(&file, slice + 7).unwrap(), Some(slice + 7));
    assert_eq!(image.next_hole(&file, 2 * slice).unwrap(), Some(file.size()));
    assert_eq!(image.next_hole(&file, file.size()).unwrap(), None);
    assert_eq!(image.next_data(&file, file.size()).unwrap(), None);
    let hole = find(&image, "data/terabytes");
    assert_eq!(image.next_data(&hole, 0).unwrap(), None);
    assert_eq!(image.next_hole(&hole, 1 << 40).unwrap(), Some(1 << 40));
    let many = find(&image, "data/many-runs");
    assert_eq!(image.next_data(&many, slice).unwrap(), Some(2 * slice));
}

#[test]
fn most_inodes_are_compact_and_maps_are_rare() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let image = image(&written.meta);
    assert!(!find(&image, "types/regular").is_extended());
    assert!(!find(&image, "attributes/uid-16").is_extended());
    for path in ["attributes/uid-17", "attributes/gid-32", "attributes/nanoseconds", "data/five-gib"] {
        assert!(find(&image, path).is_extended(), "{path}");
    }
    assert!(matches!(find(&image, "data/block-and-byte").data(), dimsum_erofs::Data::Plain { .. }));
    assert!(matches!(find(&image, "data/five-gib").data(), dimsum_erofs::Data::Map { bits: 6 }));
    assert!(matches!(find(&image, "data/terabytes").data(), dimsum_erofs::Data::Map { bits: 31 }));
    assert!(matches!(find(&image, "types/nothing").data(), dimsum_erofs::Data::Plain { block: Some(0) }));
}

#[test]
fn a_shared_attribute_is_stored_once_and_one_by_one_xattrs_are_found() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let image = image(&written.meta);
    let count = |needle: &[u8]| written.meta.windows(needle.len()).filter(|window| *window == needle).count();
    assert_eq!(count(b"mime_typetext/plain"), 1);
    for entry in tree.dump() {
        let Ok(path) = std::str::from_utf8(&entry.path) else { continue };
        let inode = if path.is_empty() { image.root().unwrap() } else { find(&image, path) };
        for xattr in entry.xattrs {
            assert_eq!(image.xattr(&inode, &xattr.name).unwrap().as_deref(), Some(&*xattr.value));
        }
        assert_eq!(image.xattr_names(&inode).unwrap().len(), entry.xattrs.len());
        assert_eq!(image.xattr(&inode, b"user.none").unwrap(), None);
    }
}

#[test]
fn the_256th_shared_attribute_of_an_inode_is_inline() {
    let xattrs: Vec<_> = (0..300).map(|n| xattr(&format!("user.{n:03}"), b"v")).collect();
    let mut tree = TreeBuilder::new();
    for name in [b"a", b"b"] {
        tree.insert(TreeBuilder::ROOT, name, NodeKind::Fifo, &Metadata { xattrs: &xattrs, ..plain_metadata() })
            .unwrap();
    }
    let tree = tree.finish().unwrap();
    let written = write(&tree, &Files::default(), ImageKind::Image);
    let image = image(&written.meta);
    assert_eq!(dump(&to_tree(&image, |_| ContentId::new(0)).unwrap()), dump(&tree));
    let entry = |n: usize| {
        let needle = format!("\x03\x01\x01\0{n:03}v");
        written.meta.windows(8).filter(|window| *window == needle.as_bytes()).count()
    };
    assert_eq!((entry(254), entry(255)), (1, 2));
}

#[test]
fn the_common_mtime_is_that_of_the_majority() {
    let time = |seconds| Timestamp { seconds, nanoseconds: 0 };
    let mut tree = TreeBuilder::new();
    for n in 0..9i64 {
        let mtime = time(if n % 2 == 0 { -77 } else { n });
        tree.insert(TreeBuilder::ROOT, &[b'a' + n as u8], NodeKind::Fifo, &Metadata { mtime, ..plain_metadata() })
            .unwrap();
    }
    tree.set_metadata(TreeBuilder::ROOT, &Metadata { mtime: time(-77), ..plain_metadata() }).unwrap();
    let tree = tree.finish().unwrap();
    let written = write(&tree, &Files::default(), ImageKind::Image);
    assert_eq!(image(&written.meta).superblock().build_time.get().cast_signed(), -77);
}
