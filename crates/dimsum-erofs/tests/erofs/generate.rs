//! Random trees.

use dimsum_tree::{DeviceNumber, Metadata, NodeId, NodeKind, Timestamp, Tree, TreeBuilder, Xattr};
use proptest::prelude::*;
use proptest::sample::Index;

use crate::common::{Files, xattr};

/// What one inode of a random tree is to be.
#[derive(Clone, Debug)]
struct Plan {
    parent: Index,
    name: Vec<u8>,
    kind: PlannedKind,
    permissions: u16,
    uid: u32,
    mtime: (i64, u32),
    xattrs: Vec<(u8, u8)>,
}

#[derive(Clone, Debug)]
enum PlannedKind {
    File(Vec<(u64, bool)>, u64),
    Directory,
    Symlink(usize),
    Link(Index),
    Device(u32, u32),
    Fifo,
}

fn kind() -> impl Strategy<Value = PlannedKind> {
    let pieces = prop::collection::vec((0u64..4, any::<bool>()), 0..6);
    prop_oneof![
        4 => (pieces, 1u64..300_000).prop_map(|(pieces, tail)| PlannedKind::File(pieces, tail)),
        4 => Just(PlannedKind::Directory),
        2 => (1usize..4096).prop_map(PlannedKind::Symlink),
        2 => any::<Index>().prop_map(PlannedKind::Link),
        1 => (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| PlannedKind::Device(major, minor)),
        4 => Just(PlannedKind::Fifo),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_filter("a name has none of these", |byte| !matches!(byte, 0 | b'/'));
    let any = prop::collection::vec(byte, 1..=255);
    prop_oneof![3 => any, 2 => prop::collection::vec(b'-'..b'1', 1..4), 3 => prop::collection::vec(b'a'..b'e', 200..=255)]
        .prop_map(|name| name.into_iter().map(|byte| if byte == b'/' { b'x' } else { byte }).collect::<Vec<_>>())
        .prop_filter("a name is not one of these", |name| !matches!(&**name, b"." | b".."))
}

fn plan() -> impl Strategy<Value = Plan> {
    let uid = prop_oneof![4 => Just(0), 1 => 0u32..u32::MAX];
    let mtime = prop_oneof![4 => Just((7, 7)), 1 => (any::<i64>(), 0u32..1_000_000_000)];
    let xattrs = prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec((0u8..40, 0u8..3), 0..20)];
    (any::<Index>(), name(), kind(), 0u16..0o10000, uid, mtime, xattrs).prop_map(
        |(parent, name, kind, permissions, uid, mtime, xattrs)| Plan {
            parent,
            name,
            kind,
            permissions,
            uid,
            mtime,
            xattrs,
        },
    )
}

/// A tree of up to 120 names.
pub(crate) fn tree() -> impl Strategy<Value = (Tree, Files)> {
    prop::collection::vec(plan(), 0..120).prop_map(|plans| build(&plans))
}

fn build(plans: &[Plan]) -> (Tree, Files) {
    let mut tree = TreeBuilder::new();
    let mut files = Files::default();
    let mut directories = vec![TreeBuilder::ROOT];
    let mut others: Vec<NodeId> = Vec::new();
    for plan in plans {
        let parent = directories[plan.parent.index(directories.len())];
        if let PlannedKind::Link(of) = plan.kind {
            if !others.is_empty() {
                // A name that is taken is left out.
                tree.link(parent, &plan.name, others[of.index(others.len())]).ok();
            }
            continue;
        }
        let xattrs = xattrs(&plan.xattrs);
        let (seconds, nanoseconds) = plan.mtime;
        let mtime = Timestamp { seconds, nanoseconds };
        let metadata =
            Metadata { permissions: plan.permissions, uid: plan.uid, gid: plan.uid / 2, mtime, xattrs: &xattrs };
        let target = vec![b't'; 4096];
        let kind = match &plan.kind {
            PlannedKind::File(pieces, tail) => file(&mut files, pieces, *tail),
            PlannedKind::Directory => NodeKind::Directory,
            PlannedKind::Symlink(length) => NodeKind::Symlink { target: &target[..*length] },
            PlannedKind::Device(major, minor) => NodeKind::BlockDevice(DeviceNumber { major: *major, minor: *minor }),
            PlannedKind::Fifo | PlannedKind::Link(_) => NodeKind::Fifo,
        };
        let is_directory = matches!(kind, NodeKind::Directory);
        if let Ok(node) = tree.insert(parent, &plan.name, kind, &metadata) {
            if is_directory { directories.push(node) } else { others.push(node) }
        }
    }
    (tree.finish().expect("random trees are small"), files)
}

/// Whole slices, then a last piece.
fn file(files: &mut Files, pieces: &[(u64, bool)], tail: u64) -> NodeKind<'static> {
    let mut runs: Vec<_> = pieces.iter().map(|&(slices, data)| (slices * 64, data)).collect();
    let size = runs.iter().map(|(blocks, _)| blocks * 4096).sum::<u64>() + tail;
    runs.push((tail.div_ceil(4096), tail.is_multiple_of(2)));
    NodeKind::Regular { size, content: files.add(&runs) }
}

fn xattrs(plan: &[(u8, u8)]) -> Vec<Xattr> {
    let prefixes = ["user", "trusted", "security"];
    let mut xattrs: Vec<_> = plan
        .iter()
        .map(|&(name, value)| {
            let prefix = prefixes[usize::from(name) % prefixes.len()];
            xattr(&format!("{prefix}.{}", "n".repeat(usize::from(name) + 1)), &vec![value; usize::from(value) * 7])
        })
        .collect();
    xattrs.sort();
    xattrs.dedup_by(|a, b| a.name == b.name);
    xattrs
}
