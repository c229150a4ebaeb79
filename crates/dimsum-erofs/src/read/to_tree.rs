//! Reads an image back into a tree, so that a layer meta can replace its layer's tar.

use std::collections::HashMap;

use dimsum_tree::{ContentId, FileType, Metadata, NodeId, NodeKind, Tree, TreeBuilder, Xattr};

use super::{ErofsImage, ErofsInode, MetaRead};
use crate::error::ErofsError;
use crate::limits::MAX_DEPTH;
use crate::prefix::{OPAQUE_NAME, OPAQUE_VALUE};

/// Why an image is no tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToTreeError<E: std::error::Error + 'static> {
    /// The image cannot be read.
    #[error("cannot read the image")]
    Image {
        /// Why.
        #[source]
        source: ErofsError<E>,
    },
    /// An inode is beyond what a tree takes.
    #[error("inode {nid} does not fit a tree")]
    Inode {
        /// The inode.
        nid: u64,
        /// Why.
        #[source]
        fault: dimsum_tree::EntryFault,
    },
    /// The tree as a whole is beyond its limits.
    #[error("the image does not fit a tree")]
    Tree {
        /// Why.
        #[source]
        source: dimsum_tree::TreeError,
    },
    /// Directories go round in circles, or deeper than [`MAX_DEPTH`].
    #[error("more than {} directories deep", MAX_DEPTH)]
    TooDeep,
}

impl<E: std::error::Error + 'static> From<ErofsError<E>> for ToTreeError<E> {
    fn from(source: ErofsError<E>) -> Self {
        Self::Image { source }
    }
}

/// Builds the tree that an image holds. The image should be [validated](crate::validate); whatever it is, this ends, at
/// the latest at the tree's limits.
///
/// `content` gives each regular file a handle, once per inode, in path order.
///
/// # Errors
///
/// If the image cannot be read or does not fit a tree.
pub fn to_tree<M: MetaRead>(
    image: &ErofsImage<M>,
    mut content: impl FnMut(&ErofsInode) -> ContentId,
) -> std::result::Result<Tree, ToTreeError<M::Error>> {
    let mut builder = TreeBuilder::new();
    let root = image.root()?;
    let (xattrs, opaque) = xattrs(image, &root)?;
    builder.set_metadata(TreeBuilder::ROOT, &metadata(&root, &xattrs)).map_err(|fault| refused(&root, fault))?;
    builder.set_opaque(TreeBuilder::ROOT, opaque);
    let mut links: HashMap<u64, NodeId> = HashMap::new();
    let mut levels = vec![(TreeBuilder::ROOT, image.read_dir(&root, 0)?)];
    while let Some((parent, entries)) = levels.last_mut() {
        let parent = *parent;
        let Some(entry) = entries.next_entry()? else {
            levels.pop();
            continue;
        };
        if matches!(entry.name, b"." | b"..") {
            continue;
        }
        if let Some(&node) = links.get(&entry.nid) {
            builder.link(parent, entry.name, node).map_err(|fault| ToTreeError::Inode { nid: entry.nid, fault })?;
            continue;
        }
        let inode = image.inode(entry.nid)?;
        let node = insert(image, &mut builder, parent, entry.name, &inode, &mut content)?;
        if inode.is_directory() {
            if levels.len() > MAX_DEPTH {
                return Err(ToTreeError::TooDeep);
            }
            levels.push((node, image.read_dir(&inode, 0)?));
        } else if inode.nlink() > 1 {
            links.insert(inode.nid(), node);
        }
    }
    builder.finish().map_err(|source| ToTreeError::Tree { source })
}

fn insert<M: MetaRead>(
    image: &ErofsImage<M>,
    builder: &mut TreeBuilder,
    parent: NodeId,
    name: &[u8],
    inode: &ErofsInode,
    content: &mut impl FnMut(&ErofsInode) -> ContentId,
) -> std::result::Result<NodeId, ToTreeError<M::Error>> {
    let target;
    let kind = match inode.file_type() {
        FileType::Regular => NodeKind::Regular { size: inode.size(), content: content(inode) },
        FileType::Directory => NodeKind::Directory,
        FileType::Symlink => {
            target = image.read_link(inode)?;
            NodeKind::Symlink { target: &target }
        }
        FileType::CharDevice if inode.rdev().major == 0 && inode.rdev().minor == 0 => NodeKind::Whiteout,
        FileType::CharDevice => NodeKind::CharDevice(inode.rdev()),
        FileType::BlockDevice => NodeKind::BlockDevice(inode.rdev()),
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
    };
    let (xattrs, opaque) = xattrs(image, inode)?;
    let node = builder.insert(parent, name, kind, &metadata(inode, &xattrs)).map_err(|fault| refused(inode, fault))?;
    builder.set_opaque(node, opaque);
    Ok(node)
}

/// Returns the attributes but for the mark of an opaque directory, and whether that was there.
fn xattrs<M: MetaRead>(image: &ErofsImage<M>, inode: &ErofsInode) -> super::ReadResult<(Vec<Xattr>, bool), M> {
    let mut xattrs = image.xattrs(inode)?;
    let count = xattrs.len();
    xattrs.retain(|xattr| !(inode.is_directory() && *xattr.name == *OPAQUE_NAME && *xattr.value == *OPAQUE_VALUE));
    let opaque = xattrs.len() != count;
    Ok((xattrs, opaque))
}

fn metadata<'a>(inode: &ErofsInode, xattrs: &'a [Xattr]) -> Metadata<'a> {
    Metadata { permissions: inode.permissions(), uid: inode.uid(), gid: inode.gid(), mtime: inode.mtime(), xattrs }
}

fn refused<E: std::error::Error + 'static>(inode: &ErofsInode, fault: dimsum_tree::EntryFault) -> ToTreeError<E> {
    ToTreeError::Inode { nid: inode.nid(), fault }
}
