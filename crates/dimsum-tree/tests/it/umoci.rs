//! Random stacks of layers, as umoci unpacks them and as this crate merges them.
//!
//! Both trees are compared by path, type, mode, owner and content. What is known to differ is not made:
//!
//! - a mark below a directory that the same layer deletes: here and in podman the empty directory stays;
//! - which names share an inode after a hard link to a file of a lower layer. Here they share it as overlayfs copies
//!   the file up, in umoci as the link changes the lower tree. The names and their contents are compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use dimsum_testing::images::layout_of_layers;
use dimsum_testing::{program_or_skip, root_or_skip};
use dimsum_tree::{FileType, Policy, Tree, merge, read_layer};

use crate::memory_sink::MemorySink;
use crate::tar_writer::{Entry, dir, file, hard, of_type, symlink, tar};

/// Stacks that are compared. Each is a run of umoci, of some 30 ms.
const SEEDS: u64 = 1000;
/// Processes of umoci at a time.
const WORKERS: usize = 4;

/// Names that entries have: few, so that layers meet.
const PATHS: [&str; 12] = ["a", "b", "c", "d", "d/a", "d/b", "d/s", "d/s/a", "d/s/b", "e", "e/a", "e/s/a"];

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

/// What a path is while a stack is made: enough to make entries that every tool takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    File,
    Directory,
}

/// A stack under construction: the tree below, and what the layer at hand has said.
#[derive(Default)]
struct Stack {
    tree: BTreeMap<String, Made>,
    layer: BTreeMap<String, Made>,
    /// Names that this layer deletes.
    deleted: Vec<String>,
    entries: Vec<Entry>,
}

fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

impl Stack {
    /// Whether an entry of this path is sensible. Nothing but a directory stands above it (umoci refuses a lower file
    /// there). No mark of this layer stands for one of its directories, whose place among the entries would count.
    fn is_free(&self, path: &str) -> bool {
        above(path)
            .all(|parent| self.tree.get(parent) != Some(&Made::File) && !self.deleted.iter().any(|name| name == parent))
    }

    fn put(&mut self, path: &str, made: Made, entry: Entry) {
        if made == Made::File {
            self.layer.retain(|there, _| !is_below(there, path));
            self.tree.retain(|there, _| !is_below(there, path));
        }
        for parent in above(path) {
            self.layer.entry(parent.to_owned()).or_insert(Made::Directory);
            if self.tree.get(parent) != Some(&Made::Directory) {
                self.tree.insert(parent.to_owned(), Made::Directory);
            }
        }
        self.layer.insert(path.to_owned(), made);
        self.tree.insert(path.to_owned(), made);
        self.entries.push(entry);
    }

    fn add(&mut self, dice: &mut Dice, lower: &BTreeMap<String, Made>) {
        let path = *dice.pick(&PATHS);
        if !self.is_free(path) {
            return;
        }
        let number = dice.roll(1000);
        let (uid, mode) = (u32::try_from(number).unwrap(), *dice.pick(&[0o644, 0o755, 0o4755, 0o600]));
        match dice.roll(10) {
            0..=2 if self.layer.get(path) != Some(&Made::Directory) => {
                self.put(path, Made::File, file(path, format!("{path} {number}")).uid(uid).mode(mode));
            }
            3 if self.layer.get(path) != Some(&Made::File) => self.put(path, Made::Directory, dir(path)),
            4 if self.layer.get(path) != Some(&Made::Directory) => {
                self.put(path, Made::File, symlink(path, format!("to-{number}")));
            }
            5 | 6 if self.layer.get(path) != Some(&Made::Directory) => {
                let files: Vec<String> =
                    self.tree.iter().filter(|(_, made)| **made == Made::File).map(|(path, _)| path.clone()).collect();
                // A target of the lower tree that a mark of this layer hides is no target any more.
                let is_there = |target: &&String| {
                    target.as_str() != path
                        && !is_below(target, path)
                        && (self.layer.contains_key(*target) || !self.is_deleted(target))
                };
                let files: Vec<&String> = files.iter().filter(is_there).collect();
                if !files.is_empty() {
                    let target = (*dice.pick(&files)).clone();
                    self.put(path, Made::File, hard(path, target));
                }
            }
            7 | 8
                if lower.contains_key(path)
                    && !self.layer.keys().chain(&self.deleted).any(|there| is_below(there, path))
                    && !self.is_deleted(path) =>
            {
                let (parent, name) = path.rsplit_once('/').map_or(("", path), |(parent, name)| (parent, name));
                let slash = if parent.is_empty() { "" } else { "/" };
                self.entries.push(of_type(format!("{parent}{slash}.wh.{name}"), b'0'));
                self.deleted.push(path.to_owned());
                let layer = &self.layer;
                let is_hidden = |there: &str| there == path || is_below(there, path);
                self.tree.retain(|there, _| !is_hidden(there) || layer.contains_key(there));
            }
            9 if lower.get(path) == Some(&Made::Directory)
                && self.layer.get(path) != Some(&Made::File)
                && !self.deleted.iter().any(|there| is_below(there, path))
                && !self.is_deleted(path) =>
            {
                self.entries.push(of_type(format!("{path}/.wh..wh..opq"), b'0'));
                self.deleted.push(path.to_owned());
                let layer = &self.layer;
                self.tree.retain(|there, _| !is_below(there, path) || layer.contains_key(there));
            }
            _ => {}
        }
    }

    fn is_deleted(&self, path: &str) -> bool {
        self.deleted.iter().any(|deleted| path == deleted || is_below(path, deleted))
    }
}

/// The layers of a seed.
fn layers(seed: u64) -> Vec<Vec<Entry>> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut tree = BTreeMap::new();
    let count = 2 + dice.roll(3);
    let mut layers = Vec::new();
    for _ in 0..count {
        let mut stack = Stack { tree: BTreeMap::clone(&tree), ..Stack::default() };
        for _ in 0..2 + dice.roll(9) {
            stack.add(&mut dice, &tree);
        }
        tree = stack.tree;
        layers.push(stack.entries);
    }
    layers
}

/// A line per path: type, mode and owner, and content or target.
fn ours(layers: &[Vec<Entry>]) -> Vec<String> {
    let mut sink = MemorySink::default();
    let mut merged: Option<Tree> = None;
    for entries in layers {
        let layer = read_layer(&tar(entries)[..], merged.as_ref(), &mut sink, Policy::default()).unwrap();
        merged = Some(match merged {
            None => layer.tree.into_base().unwrap(),
            Some(lower) => merge(lower, &layer.tree).unwrap(),
        });
    }
    let tree = merged.unwrap();
    let mut lines: Vec<String> = tree
        .dump()
        .skip(1)
        .map(|entry| {
            let path = String::from_utf8(entry.path.clone()).unwrap();
            let said = match entry.inode.file_type() {
                FileType::Directory => "dir".to_owned(),
                FileType::Symlink => format!("-> {}", String::from_utf8_lossy(tree.symlink_target(entry.id))),
                FileType::Regular => {
                    let content = entry.inode.content().unwrap().get() as usize;
                    let text = String::from_utf8_lossy(&sink.files[content]);
                    format!("{:o} {} {text}", entry.inode.permissions(), entry.inode.uid())
                }
                other => format!("{other:?}"),
            };
            format!("{path}: {said}")
        })
        .collect();
    lines.sort();
    lines
}

fn on_disk(root: &Path, directory: &Path, lines: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let shown = path.strip_prefix(root).unwrap().display().to_string();
        if metadata.is_dir() {
            lines.push(format!("{shown}: dir"));
            on_disk(root, &path, lines);
        } else if metadata.is_symlink() {
            lines.push(format!("{shown}: -> {}", fs::read_link(&path).unwrap().display()));
        } else {
            assert!(!metadata.file_type().is_char_device(), "{shown}: a whiteout was unpacked");
            let text = fs::read_to_string(&path).unwrap();
            lines.push(format!("{shown}: {:o} {} {text}", metadata.mode() & 0o7777, metadata.uid()));
        }
    }
}

fn umocis(directory: &Path, layers: &[Vec<Entry>]) -> Result<Vec<String>, String> {
    let (layout, bundle) = (directory.join("layout"), directory.join("bundle"));
    let tars: Vec<Vec<u8>> = layers.iter().map(|entries| tar(entries)).collect();
    layout_of_layers(&layout, &tars);
    let mut command = Command::new("umoci");
    command.arg("unpack").arg("--image").arg(format!("{}:v1", layout.display())).arg(&bundle);
    let output = command.output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let (root, mut lines) = (bundle.join("rootfs"), Vec::new());
    on_disk(&root, &root, &mut lines);
    lines.sort();
    Ok(lines)
}

#[test]
fn privileged_a_thousand_random_stacks_are_what_umoci_unpacks() {
    if !(root_or_skip() && program_or_skip("umoci")) {
        return;
    }
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS {
                        return;
                    }
                    let (scratch, layers) = (tempfile::tempdir().unwrap(), layers(seed));
                    let theirs = umocis(scratch.path(), &layers);
                    let ours = std::panic::catch_unwind(|| ours(&layers)).map_err(|_| "panic".to_owned());
                    assert_eq!(ours, theirs, "seed {seed}:\n{}", shown(&layers));
                }
            });
        }
    });
}

fn shown(layers: &[Vec<Entry>]) -> String {
    let entry = |entry: &Entry| {
        let (path, link) = (String::from_utf8_lossy(&entry.path), String::from_utf8_lossy(&entry.link));
        format!("{path}({}{link})", char::from(entry.flag))
    };
    let layer = |entries: &Vec<Entry>| entries.iter().map(entry).collect::<Vec<_>>().join(" ");
    layers.iter().map(layer).collect::<Vec<_>>().join("\n")
}
