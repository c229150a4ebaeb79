//! The kernel's own EROFS shows our trees as they are.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, read_dir, read_link, symlink_metadata};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use dimsum_erofs::ImageKind;
use dimsum_tree::{FileType, InodeId, NodeKind, Tree, TreeBuilder};
use rustix::fs::{SeekFrom, lgetxattr, llistxattr, seek};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

use crate::common::{Files, content, layout, places, plain_metadata, skip, write, zoo};

/// An image that is mounted nowhere but under a descriptor; it goes away with that.
struct Mounted {
    fd: OwnedFd,
    _image: tempfile::NamedTempFile,
}

impl Mounted {
    /// Mounts a flat image from a file, without a loop device; says why if that is not possible here.
    fn new(flat: &[u8]) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("root");
            return None;
        }
        let Ok(context) = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC) else {
            skip("a kernel with EROFS");
            return None;
        };
        let mut image = tempfile::NamedTempFile::new().unwrap();
        image.write_all(flat).unwrap();
        fsconfig_set_string(&context, "source", image.path()).unwrap();
        fsconfig_set_flag(&context, "ro").unwrap();
        match fsconfig_create(&context) {
            Ok(()) => {}
            Err(rustix::io::Errno::NOTBLK) => {
                skip("a kernel that mounts EROFS from a file");
                return None;
            }
            Err(error) => panic!("the kernel refuses the image: {error}"),
        }
        let fd = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap();
        Some(Self { fd, _image: image })
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        Path::new("/proc/self/fd").join(self.fd.as_raw_fd().to_string()).join(OsStr::from_bytes(path))
    }
}

/// Holds what `stat`, `readdir`, `readlink` and the xattr calls say against a tree.
fn compare(mounted: &Mounted, tree: &Tree, nid: impl Fn(InodeId) -> u64) {
    for entry in tree.dump() {
        let inode = entry.inode;
        // With a slash the root is looked through the link in /proc.
        let path = if entry.path.is_empty() { mounted.path(b"") } else { mounted.path(&entry.path) };
        let stat = symlink_metadata(&path).unwrap();
        assert_eq!(stat.mode(), u32::from(inode.file_type().mode_bits() | inode.permissions()), "{entry}");
        assert_eq!((stat.uid(), stat.gid(), stat.nlink()), (inode.uid(), inode.gid(), inode.nlink().into()), "{entry}");
        assert_eq!(
            (stat.mtime(), stat.mtime_nsec()),
            (inode.mtime().seconds, inode.mtime().nanoseconds.into()),
            "{entry}"
        );
        assert_eq!(stat.ino(), nid(entry.id), "{entry}");
        if inode.is_directory() {
            let names: Vec<_> =
                read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().as_bytes().to_vec()).collect();
            let expected: Vec<_> = tree.entries(entry.id).map(|entry| entry.name.to_vec()).collect();
            assert_eq!(names, expected, "{entry}");
        } else {
            assert_eq!(stat.size(), inode.size(), "{entry}");
            let (major, minor) = (rustix::fs::major(stat.rdev()), rustix::fs::minor(stat.rdev()));
            assert_eq!((major, minor), (inode.rdev().major, inode.rdev().minor), "{entry}");
        }
        if inode.file_type() == FileType::Symlink {
            assert_eq!(read_link(&path).unwrap().as_os_str().as_bytes(), entry.target, "{entry}");
        }
        let xattrs: BTreeMap<_, _> =
            entry.xattrs.iter().map(|xattr| (xattr.name.to_vec(), xattr.value.to_vec())).collect();
        assert_eq!(kernel_xattrs(&path), xattrs, "{entry}");
    }
}

fn kernel_xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut list = vec![0; 65_536];
    let length = llistxattr(path, &mut list).unwrap();
    let names = list[..length].split_inclusive(|&byte| byte == 0).map(|name| &name[..name.len() - 1]);
    names
        .map(|name| {
            let mut value = vec![0; 65_536];
            let length = lgetxattr(path, OsStr::from_bytes(name), &mut value).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect()
}

#[test]
fn privileged_the_kernel_shows_the_zoo_as_it_is() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let planned = layout(&tree, &files, ImageKind::Image);
    let Some(mounted) = Mounted::new(&written.flat()) else { return };
    compare(&mounted, &tree, |id| planned.nid(id));
    for entry in tree.dump().filter(|entry| entry.inode.file_type() == FileType::Regular) {
        let runs = &files.runs[entry.inode.content().unwrap().get() as usize];
        let file = File::open(mounted.path(&entry.path)).unwrap();
        for place in places(runs, entry.inode.size()) {
            let expected = content(runs, entry.inode.size(), written.meta_blocks().into(), place, 5000);
            let mut got = vec![0; expected.len()];
            file.read_exact_at(&mut got, place).unwrap();
            assert!(got == expected, "{entry} at {place}");
        }
    }
}

#[test]
fn privileged_the_kernel_finds_holes_where_we_do() {
    let (tree, files) = zoo();
    let written = write(&tree, &files, ImageKind::Image);
    let planned = layout(&tree, &files, ImageKind::Image);
    let image = dimsum_erofs::ErofsImage::open(&written.meta).unwrap();
    let Some(mounted) = Mounted::new(&written.flat()) else { return };
    for entry in tree.dump().filter(|entry| entry.inode.file_type() == FileType::Regular) {
        let file = File::open(mounted.path(&entry.path)).unwrap();
        let inode = image.inode(planned.nid(entry.id)).unwrap();
        let runs = &files.runs[entry.inode.content().unwrap().get() as usize];
        for place in places(runs, entry.inode.size()) {
            let ours = (image.next_data(&inode, place).unwrap(), image.next_hole(&inode, place).unwrap());
            let kernel = (seek(&file, SeekFrom::Data(place)).ok(), seek(&file, SeekFrom::Hole(place)).ok());
            assert_eq!(ours, kernel, "{entry} at {place}");
        }
    }
}

#[test]
fn privileged_the_kernel_shows_100000_names_and_only_a_root() {
    let only_root = TreeBuilder::new().finish().unwrap();
    let mut large = TreeBuilder::new();
    let dir = large.insert(TreeBuilder::ROOT, b"large", NodeKind::Directory, &plain_metadata()).unwrap();
    for n in 0..100_000 {
        large.insert(dir, format!("name-{n}").as_bytes(), NodeKind::Fifo, &plain_metadata()).unwrap();
    }
    for tree in [only_root, large.finish().unwrap()] {
        let files = Files::default();
        let Some(mounted) = Mounted::new(&write(&tree, &files, ImageKind::Image).flat()) else { return };
        let planned = layout(&tree, &files, ImageKind::Image);
        compare(&mounted, &tree, |id| planned.nid(id));
    }
}
