//! Resolves a path through the layer read so far and the lower tree behind it.

use super::apply::Applier;
use crate::builder::{NodeId, TreeBuilder};
use crate::error::EntryFault;
use crate::limits::MAX_DEPTH;
use crate::types::{FileType, InodeId};

/// Symbolic links followed on the way to one parent: as many as Linux follows.
const MAX_SYMLINKS: usize = 40;

/// A directory as seen through the layer: in it, behind it, both, or (still) neither.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ResolvedPlace {
    pub(super) layer: Option<NodeId>,
    /// The lower directory, if it is visible.
    pub(super) lower: Option<InodeId>,
}

/// The directories from the root to where a path leads, the root left out.
#[derive(Debug)]
pub(super) struct Way {
    root: ResolvedPlace,
    steps: Vec<(ResolvedPlace, Vec<u8>)>,
    /// Whether a symbolic link was followed.
    pub(super) followed: bool,
}

impl Way {
    /// Returns the names of the way, from the root.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.steps.iter().map(|(_, name)| &name[..])
    }

    /// Returns the directory the way ends in.
    pub(super) fn end(&self) -> ResolvedPlace {
        self.steps.last().map_or(self.root, |(place, _)| *place)
    }
}

enum ResolveStep {
    Directory(ResolvedPlace),
    Symlink(Vec<u8>),
}

impl Applier<'_> {
    /// Follows the components of a path, changing nothing.
    pub(super) fn resolve(&self, components: &[&[u8]]) -> Result<Way, EntryFault> {
        let root_hides = self.builder.inode(TreeBuilder::ROOT).is_opaque();
        let root = ResolvedPlace {
            layer: Some(TreeBuilder::ROOT),
            lower: self.lower.filter(|_| !root_hides).map(|_| InodeId::ROOT),
        };
        let mut way = Way { root, steps: Vec::new(), followed: false };
        let mut links = 0;
        // The next component is the last.
        let mut rest: Vec<Vec<u8>> = components.iter().rev().map(|name| name.to_vec()).collect();
        while let Some(name) = rest.pop() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    way.steps.pop();
                    continue;
                }
                _ => {}
            }
            match self.step(way.end(), &name)? {
                ResolveStep::Directory(place) => way.steps.push((place, name)),
                ResolveStep::Symlink(target) => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err(EntryFault::SymlinkLoop { limit: MAX_SYMLINKS });
                    }
                    way.followed = true;
                    if target.starts_with(b"/") {
                        way.steps.clear();
                    }
                    rest.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
                }
            }
            if way.steps.len() > MAX_DEPTH {
                return Err(EntryFault::TooDeep);
            }
        }
        Ok(way)
    }

    /// Looks one name up.
    fn step(&self, from: ResolvedPlace, name: &[u8]) -> Result<ResolveStep, EntryFault> {
        let behind =
            self.lower.zip(from.lower).and_then(|(tree, directory)| Some((tree, tree.lookup(directory, name)?)));
        let lower_directory = behind.filter(|(tree, id)| tree.inode(*id).is_directory()).map(|(_, id)| id);
        if let Some(node) = from.layer.and_then(|directory| self.builder.lookup(directory, name)) {
            let inode = self.builder.inode(node);
            return match inode.file_type() {
                FileType::Directory => Ok(ResolveStep::Directory(ResolvedPlace {
                    layer: Some(node),
                    lower: lower_directory.filter(|_| !inode.is_opaque()),
                })),
                FileType::Symlink => Ok(ResolveStep::Symlink(self.builder.symlink_target(node).to_vec())),
                FileType::CharDevice if inode.is_whiteout() => Ok(ResolveStep::Directory(ResolvedPlace::default())),
                _ => Err(EntryFault::NotADirectory),
            };
        }
        match behind {
            Some((tree, id)) if tree.inode(id).file_type() == FileType::Symlink => {
                Ok(ResolveStep::Symlink(tree.symlink_target(id).to_vec()))
            }
            // A lower file is replaced by the directory that is needed in its place.
            _ => Ok(ResolveStep::Directory(ResolvedPlace { layer: None, lower: lower_directory })),
        }
    }

    /// Makes the directories of a way that the layer does not have yet, and returns the last.
    pub(super) fn ensure(&mut self, way: &Way) -> Result<NodeId, EntryFault> {
        let mut directory = TreeBuilder::ROOT;
        for (place, name) in &way.steps {
            directory = match place.layer {
                Some(node) => node,
                None => self.add_implicit(directory, name)?,
            };
        }
        Ok(directory)
    }
}
