//! Random layers against a model that knows only paths: what the specification says, written as directly as can be.

use std::collections::BTreeMap;

use dimsum_tree::{OmittedEntries, Policy, TarOptions, Tree, merge, read_layer, to_tar};
use proptest::prelude::*;

use crate::memory_sink::MemorySink;
use crate::tar_writer::{Entry, dir, file, hard, of_type, symlink, tar};

/// What a layer says of one path.
#[derive(Clone, Debug)]
enum Op {
    File(u32),
    Dir(u32),
    Symlink,
    Whiteout,
    Opaque,
    Link(String),
}

type Ops = Vec<(String, Op)>;

#[derive(Clone, Debug, PartialEq)]
enum Node {
    /// Which file, for hard links, and its owner, which is its content too.
    File(usize, u32),
    Dir(u32),
    Symlink(usize),
}

#[derive(Clone, Debug, Default)]
struct Model {
    paths: BTreeMap<String, Node>,
    files: usize,
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

impl Model {
    fn apply(&mut self, ops: &Ops) {
        for (path, op) in ops {
            match op {
                Op::Opaque => self.paths.retain(|there, _| !is_below(there, path)),
                Op::Whiteout => self.paths.retain(|there, _| there != path && !is_below(there, path)),
                _ => {}
            }
        }
        let below = self.paths.clone();
        let mut own = BTreeMap::new();
        let mut in_order: Vec<_> = ops.iter().filter(|(_, op)| !matches!(op, Op::Link(_))).collect();
        in_order.sort_by(|a, b| a.0.cmp(&b.0));
        for (path, op) in in_order {
            self.make_parents(path);
            match op {
                Op::Opaque => self.make_directory(path),
                Op::Whiteout => {}
                Op::Dir(uid) => {
                    self.make_directory(path);
                    self.paths.insert(path.clone(), Node::Dir(*uid));
                }
                Op::File(uid) => {
                    let node = Node::File(self.number(), *uid);
                    own.insert(path.clone(), node.clone());
                    self.replace(path, node);
                }
                Op::Symlink => {
                    let node = Node::Symlink(self.number());
                    own.insert(path.clone(), node.clone());
                    self.replace(path, node);
                }
                Op::Link(_) => unreachable!("filtered"),
            }
        }
        for (path, op) in ops {
            let Op::Link(target) = op else { continue };
            let node = match (own.get(target), below.get(target)) {
                (Some(node), _) => node.clone(),
                (None, Some(Node::File(_, uid))) => Node::File(self.number(), *uid),
                (None, Some(Node::Symlink(_))) => Node::Symlink(self.number()),
                _ => unreachable!("links lead to files"),
            };
            own.insert(target.clone(), node.clone());
            self.paths.insert(target.clone(), node.clone());
            self.make_parents(path);
            self.replace(path, node);
        }
    }

    fn number(&mut self) -> usize {
        self.files += 1;
        self.files
    }

    fn make_parents(&mut self, path: &str) {
        for parent in ancestors(path) {
            self.make_directory(parent);
        }
    }

    fn make_directory(&mut self, path: &str) {
        if !matches!(self.paths.get(path), Some(Node::Dir(_))) {
            self.replace(path, Node::Dir(0));
        }
    }

    fn replace(&mut self, path: &str, node: Node) {
        self.paths.retain(|there, _| there != path && !is_below(there, path));
        self.paths.insert(path.to_owned(), node);
    }

    /// One line per path, hard links by their first path.
    fn lines(&self) -> Vec<String> {
        let mut first = BTreeMap::new();
        let mut ordered: Vec<_> = self.paths.iter().collect();
        ordered.sort_by_key(|(path, _)| path.split('/').map(str::to_owned).collect::<Vec<_>>());
        ordered
            .into_iter()
            .map(|(path, node)| match node {
                Node::Dir(uid) => format!("{path} dir {uid}"),
                Node::File(number, uid) => format!("{path} file {uid} {}", first.entry(*number).or_insert(path)),
                Node::Symlink(number) => format!("{path} link {}", first.entry(*number).or_insert(path)),
            })
            .collect()
    }
}

fn tree_lines(tree: &Tree, sink: &MemorySink) -> Vec<String> {
    let mut first: BTreeMap<usize, String> = BTreeMap::new();
    let mut links: BTreeMap<usize, u32> = BTreeMap::new();
    let lines = tree
        .dump()
        .skip(1)
        .map(|entry| {
            let path = String::from_utf8(entry.path.clone()).unwrap();
            *links.entry(entry.id.index()).or_default() += 1;
            let name = first.entry(entry.id.index()).or_insert_with(|| path.clone());
            match entry.inode.content() {
                Some(id) => {
                    assert_eq!(
                        sink.files[id.get() as usize],
                        entry.inode.uid().to_string().as_bytes(),
                        "content stays with its file"
                    );
                    format!("{path} file {} {name}", entry.inode.uid())
                }
                None if entry.inode.is_directory() => format!("{path} dir {}", entry.inode.uid()),
                None => format!("{path} link {name}"),
            }
        })
        .collect();
    for (id, count) in links {
        let inode = tree.inode(dimsum_tree::InodeId::from_index(id));
        assert!(inode.is_directory() || inode.nlink() == count);
    }
    lines
}

/// Whether it makes something that has nothing below it.
fn is_leaf(op: &Op) -> bool {
    matches!(op, Op::File(_) | Op::Symlink | Op::Link(_))
}

/// Makes a layer of it: one thing per path, nothing below what is no directory, links only to files that are there.
fn sensible(raw: Ops, below: &Model) -> Ops {
    let is_symlink = |path: &str| matches!(below.paths.get(path), Some(Node::Symlink(_)));
    let mut kept: Ops = Vec::new();
    for (path, op) in raw {
        // A mark may stand beside an entry of the path, if that can be.
        let clash = kept.iter().any(|(other, there)| {
            (is_leaf(there) && is_below(&path, other))
                || (is_leaf(&op) && is_below(other, &path))
                || (*other == path && !can_stand_together(&op, there))
        });
        // A symbolic link below would be followed, which is another test's matter.
        let follows = ancestors(&path).any(is_symlink) || (is_symlink(&path) && !is_leaf(&op));
        if !clash && !follows {
            kept.push((path, op));
        }
    }
    let layer = kept.clone();
    kept.retain(|(path, op)| match op {
        Op::Link(target) => is_file(target, &layer, below) && !is_below(target, path) && !is_below(path, target),
        _ => true,
    });
    // Targets before links.
    kept.sort_by_key(|(_, op)| matches!(op, Op::Link(_)));
    kept
}

fn can_stand_together(one: &Op, other: &Op) -> bool {
    let pair = |one: &Op, other: &Op| match one {
        Op::Whiteout => !matches!(other, Op::Whiteout),
        Op::Opaque => matches!(other, Op::Dir(_)),
        _ => false,
    };
    pair(one, other) || pair(other, one)
}

/// Whether a hard link can lead to `target`: a file of the layer itself, or one below that the layer does not touch.
fn is_file(target: &str, layer: &Ops, below: &Model) -> bool {
    let own = layer.iter().any(|(path, op)| path == target && matches!(op, Op::File(_) | Op::Symlink));
    let untouched = layer.iter().all(|(path, op)| {
        let hides = !matches!(op, Op::Dir(_)) && is_below(target, path);
        path != target && !hides && !is_below(path, target)
    });
    own || (untouched && matches!(below.paths.get(target), Some(Node::File(..) | Node::Symlink(_))))
}

fn entry(path: &str, op: &Op) -> Entry {
    let marker = |name: &str| {
        path.rsplit_once('/').map_or_else(|| format!(".wh.{name}"), |(parent, last)| format!("{parent}/.wh.{last}"))
    };
    match op {
        Op::File(uid) => file(path, uid.to_string()).uid(*uid),
        Op::Dir(uid) => dir(path).uid(*uid),
        Op::Symlink => symlink(path, "nowhere"),
        Op::Whiteout => of_type(marker(path), b'0'),
        Op::Opaque => of_type(format!("{path}/.wh..wh..opq"), b'0'),
        Op::Link(target) => hard(path, target),
    }
}

fn read(ops: &Ops, lower: Option<&Tree>, sink: &mut MemorySink) -> Tree {
    let entries: Vec<Entry> = ops.iter().map(|(path, op)| entry(path, op)).collect();
    read_layer(&tar(&entries)[..], lower, sink, Policy::default()).unwrap().tree
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just("a.b")], 1..4).prop_map(|parts| parts.join("/"))
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1..100u32).prop_map(Op::File),
        3 => (1..100u32).prop_map(Op::Dir),
        1 => Just(Op::Symlink),
        2 => Just(Op::Whiteout),
        1 => Just(Op::Opaque),
        2 => path().prop_map(Op::Link),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layers_merge_as_the_specification_says_whatever_the_order(
        layers in proptest::collection::vec(proptest::collection::vec((path(), op()), 0..12), 1..5),
        seed in any::<u64>(),
    ) {
        let mut model = Model::default();
        let mut sink = MemorySink::default();
        let mut merged: Option<Tree> = None;
        for raw in layers {
            let ops = sensible(raw, &model);
            model.apply(&ops);
            let layer = read(&ops, merged.as_ref(), &mut sink);

            let mut shuffled = ops.clone();
            let key = |path: &str| path.bytes().fold(seed, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            shuffled.sort_by_key(|(path, op)| (matches!(op, Op::Link(_)), key(path)));
            let again = read(&shuffled, merged.as_ref(), &mut MemorySink::default());
            let dump = |tree: &Tree| tree.dump().map(|entry| entry.to_string()).collect::<Vec<_>>();
            prop_assert_eq!(dump(&layer), dump(&again));

            let mut written = Vec::new();
            let left_out = to_tar(&layer, &mut sink, &mut written, TarOptions::default()).unwrap();
            prop_assert_eq!(left_out, OmittedEntries::default());
            let mut copies = MemorySink::default();
            let written = read_layer(&written[..], merged.as_ref(), &mut copies, Policy::default()).unwrap().tree;
            // A link to a file of the lower tree has brought it here; its content came along.
            prop_assert_eq!(copies.lines(&written), sink.lines(&layer));

            merged = Some(match merged {
                None => layer.into_base().unwrap(),
                Some(lower) => merge(lower, &layer).unwrap(),
            });
            let tree = merged.as_ref().unwrap();
            prop_assert_eq!(tree_lines(tree, &sink), model.lines(), "{:?}", ops);
            prop_assert!(tree.ids().all(|id| !tree.inode(id).is_whiteout() && !tree.inode(id).is_opaque()));
        }
    }
}
