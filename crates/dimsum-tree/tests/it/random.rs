//! Random trees with everything an inode can have.

use dimsum_tree::{ContentId, DeviceNumber, Metadata, NodeId, NodeKind, Timestamp, Tree, TreeBuilder, Xattr};
use proptest::prelude::*;

use crate::memory_sink::MemorySink;

/// One name of a tree: which directory so far it goes to, and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    parent: usize,
    name: Vec<u8>,
    what: What,
    attributes: Attributes,
}

#[derive(Clone, Debug)]
enum What {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    /// Another name of an earlier file.
    Link(usize),
}

/// Mode, owner, group, time, xattrs.
type Attributes = (u16, u32, u32, (i64, u32), Vec<(Vec<u8>, Vec<u8>)>);

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![4 => Just(b'a'), 1 => 1u8..=255];
    let bytes = prop_oneof![
        8 => proptest::collection::vec(byte.clone(), 1..8),
        2 => proptest::collection::vec(byte.clone(), 90..110),
        1 => proptest::collection::vec(byte, 250..256),
    ];
    bytes.prop_map(|name| name.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect())
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let id = || prop_oneof![0..3u32, Just(2_097_151), Just(2_097_152), Just(u32::MAX - 1)];
    let seconds = prop_oneof![
        Just(0i64),
        Just(-1),
        Just((1 << 33) - 1),
        Just(1 << 33),
        Just(i64::MIN),
        Just(i64::MAX),
        any::<i32>().prop_map(i64::from)
    ];
    let nanoseconds = prop_oneof![2 => Just(0), 1 => 0..1_000_000_000u32];
    let value = proptest::collection::vec(any::<u8>(), 0..300);
    let xattr = (prop_oneof![Just("user.a"), Just("trusted.%3D"), Just("security.c")], value);
    let xattrs = proptest::collection::btree_map(xattr.0, xattr.1, 0..3);
    let xattrs =
        xattrs.prop_map(|map| map.into_iter().map(|(name, value)| (name.as_bytes().to_vec(), value)).collect());
    (0..0o10_000u16, id(), id(), (seconds, nanoseconds), xattrs)
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        4 => proptest::collection::vec(any::<u8>(), 0..2000).prop_map(What::File),
        4 => Just(What::Directory),
        1 => proptest::collection::vec(1u8..=255, 1..300).prop_map(What::Symlink),
        1 => (1..4096u32, 0..(1u32 << 20)).prop_map(|(major, minor)| What::Char(major, minor)),
        1 => (0..4096u32, 0..(1u32 << 20)).prop_map(|(major, minor)| What::Block(major, minor)),
        1 => Just(What::Fifo),
        2 => any::<usize>().prop_map(What::Link),
    ]
}

/// The names of a tree, first those of the root's attributes.
pub(crate) fn names() -> impl Strategy<Value = (Attributes, Vec<Name>)> {
    let name = (any::<usize>(), name(), what(), attributes()).prop_map(|(parent, name, what, attributes)| Name {
        parent,
        name,
        what,
        attributes,
    });
    (attributes(), proptest::collection::vec(name, 0..25))
}

/// Builds the tree; what cannot be is left out.
pub(crate) fn build(root: &Attributes, names: &[Name], sink: &mut MemorySink) -> Tree {
    let mut builder = TreeBuilder::new();
    let set: Vec<Xattr> = xattrs(root);
    builder.set_metadata(TreeBuilder::ROOT, &metadata(root, &set)).unwrap();
    let mut directories = vec![TreeBuilder::ROOT];
    let mut files: Vec<NodeId> = Vec::new();
    for name in names {
        if matches!(&name.name[..], b"." | b"..") || name.name.starts_with(b".wh.") {
            continue;
        }
        let parent = directories[name.parent % directories.len()];
        let mut set = xattrs(&name.attributes);
        let kind = match &name.what {
            What::File(bytes) => {
                sink.files.push(bytes.clone());
                let content = ContentId::new(u32::try_from(sink.files.len() - 1).unwrap());
                NodeKind::Regular { size: bytes.len() as u64, content }
            }
            What::Directory => NodeKind::Directory,
            What::Symlink(target) => NodeKind::Symlink { target },
            &What::Char(major, minor) => NodeKind::CharDevice(DeviceNumber { major, minor }),
            &What::Block(major, minor) => NodeKind::BlockDevice(DeviceNumber { major, minor }),
            What::Fifo => NodeKind::Fifo,
            What::Link(number) => {
                if let Some(&node) = number.checked_rem(files.len()).and_then(|number| files.get(number)) {
                    let _name_may_be_taken = builder.link(parent, &name.name, node);
                }
                continue;
            }
        };
        if !matches!(kind, NodeKind::Regular { .. } | NodeKind::Directory) {
            set.retain(|xattr| !xattr.name.starts_with(b"user."));
        }
        if let Ok(node) = builder.insert(parent, &name.name, kind, &metadata(&name.attributes, &set)) {
            match kind {
                NodeKind::Directory => directories.push(node),
                _ => files.push(node),
            }
        }
    }
    builder.finish().unwrap()
}

fn xattrs(attributes: &Attributes) -> Vec<Xattr> {
    let set = attributes.4.iter();
    set.map(|(name, value)| Xattr { name: name.clone().into(), value: value.clone().into() }).collect()
}

fn metadata<'x>((mode, uid, gid, time, _): &Attributes, xattrs: &'x [Xattr]) -> Metadata<'x> {
    let mtime = Timestamp { seconds: time.0, nanoseconds: time.1 };
    Metadata { permissions: *mode, uid: *uid, gid: *gid, mtime, xattrs }
}
