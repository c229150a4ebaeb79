//! Two file trees beside each other, name by name.

use std::fmt::Display;

use dimsum_tree::{FileType, InodeId, Tree, Xattr};
use serde::Serialize;

use super::fingerprint::Fingerprint;
use crate::listing::{UtcTime, type_name};
use crate::text::Name;

/// A way in which a path of the image is not that of the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The path, escaped where it is not printable.
    pub path: String,
    /// What differs.
    pub what: &'static str,
    /// The source's.
    pub source: String,
    /// The image's.
    pub image: String,
}

/// All differences; the first ones are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Names compared.
    pub names: u64,
    /// The first differences, as many as were asked for.
    pub listed: Vec<Difference>,
    /// All of them.
    pub differences: u64,
}

/// One of the two trees.
#[derive(Debug, Clone, Copy)]
struct Side<'t> {
    tree: &'t Tree,
}

/// Compares names, attributes, extended attributes, contents and hard links.
///
/// `contents` gives the fingerprints of a source's and an image's file of equal size; it is asked once per file.
///
/// # Errors
/// What `contents` says.
pub(super) fn compare<E>(
    source: &Tree,
    image: &Tree,
    list: usize,
    contents: impl FnMut(InodeId, InodeId) -> Result<(Fingerprint, Fingerprint), E>,
) -> Result<Comparison, E> {
    let comparer = Comparer {
        source: Side { tree: source },
        image: Side { tree: image },
        list,
        contents,
        partner_of_source: vec![None; source.len()],
        partner_of_image: vec![None; image.len()],
        result: Comparison::default(),
    };
    comparer.run()
}

struct Comparer<'t, C> {
    source: Side<'t>,
    image: Side<'t>,
    list: usize,
    contents: C,
    /// Which inode of the other tree a name has shown each inode to be.
    partner_of_source: Vec<Option<InodeId>>,
    partner_of_image: Vec<Option<InodeId>>,
    result: Comparison,
}

impl<C, E> Comparer<'_, C>
where
    C: FnMut(InodeId, InodeId) -> Result<(Fingerprint, Fingerprint), E>,
{
    fn run(mut self) -> Result<Comparison, E> {
        self.inodes(b"", InodeId::ROOT, InodeId::ROOT)?;
        let mut todo = vec![(Vec::new(), InodeId::ROOT, InodeId::ROOT)];
        while let Some((path, source, image)) = todo.pop() {
            let (source_tree, image_tree) = (self.source.tree, self.image.tree);
            let mut left = source_tree.entries(source).peekable();
            let mut right = image_tree.entries(image).peekable();
            // Both are sorted: the smaller name is one that the other side does not have.
            loop {
                let order = match (left.peek(), right.peek()) {
                    (None, None) => break,
                    (Some(_), None) => std::cmp::Ordering::Less,
                    (None, Some(_)) => std::cmp::Ordering::Greater,
                    (Some(a), Some(b)) => a.name.cmp(b.name),
                };
                let a = if order.is_le() { left.next() } else { None };
                let b = if order.is_ge() { right.next() } else { None };
                self.result.names += 1;
                let name = a.or(b).map(|entry| entry.name).unwrap_or_default();
                let below = [&*path, b"/", name].concat();
                match (a, b) {
                    (Some(a), Some(b)) => {
                        self.inodes(&below, a.inode, b.inode)?;
                        if source_tree.inode(a.inode).is_directory() && image_tree.inode(b.inode).is_directory() {
                            todo.push((below, a.inode, b.inode));
                        }
                    }
                    (Some(_), None) => self.differ(&below, "name", "present", "missing"),
                    _ => self.differ(&below, "name", "missing", "present"),
                }
            }
        }
        Ok(self.result)
    }

    /// Compares what a name stands for on both sides.
    fn inodes(&mut self, path: &[u8], source: InodeId, image: InodeId) -> Result<(), E> {
        let known = self.partner_of_source.get(source.index()).copied().flatten();
        let known_back = self.partner_of_image.get(image.index()).copied().flatten();
        if known.is_some() || known_back.is_some() {
            if known != Some(image) || known_back != Some(source) {
                self.differ(path, "hard link", Group(known_back.is_some()), Group(known.is_some()));
            }
            return Ok(());
        }
        for (table, from, to) in
            [(&mut self.partner_of_source, source, image), (&mut self.partner_of_image, image, source)]
        {
            if let Some(partner) = table.get_mut(from.index()) {
                *partner = Some(to);
            }
        }
        self.attributes(path, source, image);
        let (a, b) = (self.source.tree.inode(source), self.image.tree.inode(image));
        let files = a.file_type() == FileType::Regular && b.file_type() == FileType::Regular;
        if files && a.size() == b.size() && a.size() > 0 {
            let (left, right) = (self.contents)(source, image)?;
            if left != right {
                self.differ(path, "content", left, right);
            }
        }
        Ok(())
    }

    fn attributes(&mut self, path: &[u8], source: InodeId, image: InodeId) {
        let (a, b) = (self.source.tree.inode(source), self.image.tree.inode(image));
        if a.file_type() != b.file_type() {
            // All else follows from that.
            return self.differ(path, "type", type_name(a.file_type()), type_name(b.file_type()));
        }
        let octal = |mode: u16| format!("{mode:04o}");
        self.equal(path, "mode", octal(a.permissions()), octal(b.permissions()));
        self.equal(path, "uid", a.uid(), b.uid());
        self.equal(path, "gid", a.gid(), b.gid());
        self.equal(path, "size", a.size(), b.size());
        self.equal(path, "nlink", a.nlink(), b.nlink());
        let device = |inode: &dimsum_tree::Inode| format!("{}:{}", inode.rdev().major, inode.rdev().minor);
        self.equal(path, "rdev", device(&a), device(&b));
        let time =
            |inode: &dimsum_tree::Inode| format!("{}.{:09}", UtcTime(inode.mtime().seconds), inode.mtime().nanoseconds);
        self.equal(path, "mtime", time(&a), time(&b));
        let target = |tree: &Tree, id| Name(tree.symlink_target(id)).to_string();
        self.equal(path, "target", target(self.source.tree, source), target(self.image.tree, image));
        let (left, right) = (self.source.tree.xattrs(source), self.image.tree.xattrs(image));
        if left != right {
            self.differ(path, "xattrs", Xattrs(left), Xattrs(right));
        }
    }

    fn equal<T: PartialEq + Display>(&mut self, path: &[u8], what: &'static str, source: T, image: T) {
        if source != image {
            self.differ(path, what, source, image);
        }
    }

    fn differ(&mut self, path: &[u8], what: &'static str, source: impl Display, image: impl Display) {
        self.result.differences += 1;
        if self.result.listed.len() < self.list {
            let path = if path.is_empty() { "/".to_owned() } else { Name(path).to_string() };
            let (source, image) = (source.to_string(), image.to_string());
            self.result.listed.push(Difference { path, what, source, image });
        }
    }
}

/// Whether a name stands for an inode that another name stood for before.
struct Group(bool);

impl Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0 { "linked to an earlier name" } else { "on its own" })
    }
}

struct Xattrs<'a>(&'a [Xattr]);

impl Display for Xattrs<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (at, xattr) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}={}", Name(&xattr.name), Name(&xattr.value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dimsum_tree::{ContentId, Metadata, NodeKind, TreeBuilder};

    use super::*;

    const META: Metadata<'static> = Metadata::IMPLICIT_DIRECTORY;

    fn file(size: u64) -> NodeKind<'static> {
        NodeKind::Regular { size, content: ContentId::new(0) }
    }

    fn tree(build: impl FnOnce(&mut TreeBuilder)) -> Tree {
        let mut builder = TreeBuilder::new();
        build(&mut builder);
        builder.finish().unwrap()
    }

    fn differences(source: &Tree, image: &Tree) -> Vec<(String, &'static str)> {
        let same = |_, _| Ok::<_, ()>((blake3::hash(b""), blake3::hash(b"")));
        let comparison = compare(source, image, 100, same).unwrap();
        assert_eq!(comparison.differences, comparison.listed.len() as u64);
        comparison.listed.into_iter().map(|each| (each.path, each.what)).collect()
    }

    #[test]
    fn equal_trees_have_no_differences() {
        let one = || {
            tree(|builder| {
                let dir = builder.insert(TreeBuilder::ROOT, b"d", NodeKind::Directory, &META).unwrap();
                let file = builder.insert(dir, b"a", file(3), &META).unwrap();
                builder.link(TreeBuilder::ROOT, b"b", file).unwrap();
                builder.insert(dir, b"l", NodeKind::Symlink { target: b"a" }, &META).unwrap();
            })
        };
        assert_eq!(differences(&one(), &one()), []);
    }

    #[test]
    fn every_attribute_is_looked_at() {
        let xattr = [Xattr { name: (*b"user.a").into(), value: (*b"v").into() }];
        let changes: [(&str, Metadata<'_>); 5] = [
            ("mode", Metadata { permissions: 0o4755, ..META }),
            ("uid", Metadata { uid: 1, ..META }),
            ("gid", Metadata { gid: 1, ..META }),
            ("mtime", Metadata { mtime: dimsum_tree::Timestamp { seconds: 0, nanoseconds: 1 }, ..META }),
            ("xattrs", Metadata { xattrs: &xattr, ..META }),
        ];
        let with = |kind: NodeKind<'_>, metadata: &Metadata<'_>| {
            tree(|builder| {
                builder.insert(TreeBuilder::ROOT, b"f", kind, metadata).unwrap();
            })
        };
        let plain = with(file(3), &META);
        for (what, metadata) in changes {
            assert_eq!(differences(&plain, &with(file(3), &metadata)), [("/f".to_owned(), what)]);
        }
        let device = |minor| NodeKind::CharDevice(dimsum_tree::DeviceNumber { major: 1, minor });
        for (what, left, right) in [
            ("size", file(3), file(4)),
            ("type", file(3), NodeKind::Fifo),
            ("rdev", device(3), device(5)),
            ("target", NodeKind::Symlink { target: b"a" }, NodeKind::Symlink { target: b"b" }),
        ] {
            assert_eq!(differences(&with(left, &META), &with(right, &META)), [("/f".to_owned(), what)]);
        }
    }

    #[test]
    fn names_on_one_side_only_are_reported_with_their_side() {
        let with = |names: &[&[u8]]| {
            tree(|builder| {
                for name in names {
                    builder.insert(TreeBuilder::ROOT, name, NodeKind::Fifo, &META).unwrap();
                }
            })
        };
        let found = differences(&with(&[b"a", b"b", b"d"]), &with(&[b"b", b"c"]));
        assert_eq!(found, [("/a", "name"), ("/c", "name"), ("/d", "name")].map(|(path, what)| (path.to_owned(), what)));
    }

    #[test]
    fn a_broken_or_added_hard_link_is_found() {
        let linked = tree(|builder| {
            let a = builder.insert(TreeBuilder::ROOT, b"a", file(1), &META).unwrap();
            builder.link(TreeBuilder::ROOT, b"b", a).unwrap();
        });
        let apart = tree(|builder| {
            for name in [b"a", b"b"] {
                builder.insert(TreeBuilder::ROOT, name, file(1), &META).unwrap();
            }
        });
        for (source, image) in [(&linked, &apart), (&apart, &linked)] {
            let found = differences(source, image);
            assert!(found.contains(&("/b".to_owned(), "hard link")), "{found:?}");
        }
    }

    #[test]
    fn contents_are_compared_once_per_file_and_the_list_is_bounded() {
        let linked = || {
            tree(|builder| {
                let a = builder.insert(TreeBuilder::ROOT, b"a", file(1), &META).unwrap();
                builder.link(TreeBuilder::ROOT, b"b", a).unwrap();
                builder.insert(TreeBuilder::ROOT, b"c", file(1), &META).unwrap();
            })
        };
        let mut asked = 0;
        let different = |_, _| {
            asked += 1;
            Ok::<_, ()>((blake3::hash(b"x"), blake3::hash(b"y")))
        };
        let comparison = compare(&linked(), &linked(), 1, different).unwrap();
        assert_eq!((asked, comparison.differences, comparison.listed.len()), (2, 2, 1));
    }
}
