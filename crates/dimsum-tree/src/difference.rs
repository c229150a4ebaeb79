//! Computes the layer that turns one tree into another.

use crate::builder::{NodeId, TreeBuilder};
use crate::error::{TreeError, WriteError};
use crate::tree::{Entries, Tree};
use crate::types::{ContentId, InodeId, NodeKind};

/// Returns the layer that, merged over `lower`, gives `wanted`; `None` if there is nothing to change. Both are
/// whole trees.
///
/// `same` says whether two contents of one size are equal: that of a file of `lower` and that of a file of `wanted`. A
/// file stays only if all its names in `wanted` are names of one file in `lower` already, with the same attributes. No
/// other file of `wanted` may have such a name. Else the layer brings the file, with all its names.
///
/// # Errors
///
/// If `same` fails, or the layer is beyond a limit.
pub fn difference<E>(
    lower: &Tree,
    wanted: &Tree,
    same: impl FnMut(ContentId, ContentId) -> Result<bool, E>,
) -> Result<Option<Tree>, WriteError<E>> {
    let mut matches =
        Matches { lower, wanted, same, fates: vec![Fate::Unmet; wanted.len()], taken: vec![None; lower.len()] };
    matches.find()?;
    let fates = matches.fates;
    let differ = Differ { lower, wanted, fates, builder: TreeBuilder::new(), nodes: vec![None; wanted.len()] };
    Ok(differ.run()?)
}

/// The treatment of a file of the wanted tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// No name of it has been met yet.
    Unmet,
    /// It is this file of the lower tree.
    Stays(InodeId),
    /// The layer brings it.
    Comes,
}

/// Finds the files that stay.
struct Matches<'t, S> {
    lower: &'t Tree,
    wanted: &'t Tree,
    same: S,
    /// Of each inode of the wanted tree.
    fates: Vec<Fate>,
    /// For each inode of the lower tree the wanted one that it stays as.
    taken: Vec<Option<InodeId>>,
}

impl<E, S: FnMut(ContentId, ContentId) -> Result<bool, E>> Matches<'_, S> {
    fn find(&mut self) -> Result<(), WriteError<E>> {
        let mut directories = vec![(Some(InodeId::ROOT), InodeId::ROOT)];
        while let Some((lower_directory, directory)) = directories.pop() {
            for entry in self.wanted.entries(directory) {
                let lower = lower_directory.and_then(|lower| self.lower.lookup(lower, entry.name));
                if self.wanted.inode(entry.inode).is_directory() {
                    // Names below a directory that is not there yet are looked at too: their files may have others.
                    let lower = lower.filter(|&id| self.lower.inode(id).is_directory());
                    directories.push((lower, entry.inode));
                } else {
                    self.meet(lower, entry.inode)
                        .map_err(|source| WriteError::Content { path: entry.name.into(), source })?;
                }
            }
        }
        Ok(())
    }

    /// Looks at one name of a file.
    fn meet(&mut self, lower: Option<InodeId>, id: InodeId) -> Result<(), E> {
        let fate = match (self.fates.get(id.index()).copied(), lower) {
            (Some(Fate::Unmet), Some(lower)) if self.is_free(lower, id) && self.is_same(lower, id)? => {
                if let Some(taken) = self.taken.get_mut(lower.index()) {
                    *taken = Some(id);
                }
                Fate::Stays(lower)
            }
            (Some(Fate::Stays(before)), Some(lower)) if before == lower => Fate::Stays(lower),
            _ => Fate::Comes,
        };
        if let Some(row) = self.fates.get_mut(id.index()) {
            *row = fate;
        }
        Ok(())
    }

    fn is_free(&self, lower: InodeId, id: InodeId) -> bool {
        self.taken.get(lower.index()).is_some_and(|taken| taken.is_none_or(|taken| taken == id))
    }

    fn is_same(&mut self, lower: InodeId, id: InodeId) -> Result<bool, E> {
        if self.lower.metadata(lower) != self.wanted.metadata(id) {
            return Ok(false);
        }
        match (self.lower.kind(lower), self.wanted.kind(id)) {
            (NodeKind::Regular { size, content }, NodeKind::Regular { size: wanted_size, content: wanted }) => {
                Ok(size == wanted_size && (size == 0 || (self.same)(content, wanted)?))
            }
            (lower, wanted) => Ok(lower == wanted),
        }
    }
}

/// Builds the layer.
struct Differ<'t> {
    lower: &'t Tree,
    wanted: &'t Tree,
    fates: Vec<Fate>,
    builder: TreeBuilder,
    /// The files of the wanted tree that the layer has.
    nodes: Vec<Option<NodeId>>,
}

/// A directory on the way down.
struct DirectoryPair<'t> {
    name: &'t [u8],
    id: InodeId,
    lower: Option<InodeId>,
    names: Entries<'t>,
    /// Once the layer has it.
    node: Option<NodeId>,
}

impl<'t> Differ<'t> {
    fn run(mut self) -> Result<Option<Tree>, TreeError> {
        let (lower, wanted) = (self.lower, self.wanted);
        let root = wanted.metadata(InodeId::ROOT);
        let mut changed = lower.metadata(InodeId::ROOT) != root;
        let failed = |fault| TreeError::entry(&[][..], fault);
        self.builder.set_metadata(TreeBuilder::ROOT, &root).map_err(failed)?;
        let mut levels = Vec::new();
        changed |= self.enter(&mut levels, b"", InodeId::ROOT, Some(InodeId::ROOT))?;
        while let Some(level) = levels.last_mut() {
            let Some(entry) = level.names.next() else {
                levels.pop();
                continue;
            };
            let below = level.lower.and_then(|directory| lower.lookup(directory, entry.name));
            if wanted.inode(entry.inode).is_directory() {
                let below = below.filter(|&id| lower.inode(id).is_directory());
                changed |= self.enter(&mut levels, entry.name, entry.inode, below)?;
            } else if self.fates.get(entry.inode.index()) == Some(&Fate::Comes) {
                self.bring(&mut levels, entry.name, entry.inode)?;
                changed = true;
            }
        }
        if changed { self.builder.finish().map(Some) } else { Ok(None) }
    }

    /// Goes into a directory; says whether the layer has to have it, or to delete names in it.
    fn enter(
        &mut self,
        levels: &mut Vec<DirectoryPair<'t>>,
        name: &'t [u8],
        id: InodeId,
        lower: Option<InodeId>,
    ) -> Result<bool, TreeError> {
        let node = (id == InodeId::ROOT).then_some(TreeBuilder::ROOT);
        levels.push(DirectoryPair { name, id, lower, names: self.wanted.entries(id), node });
        let mut changed = lower.is_none_or(|lower| self.lower.metadata(lower) != self.wanted.metadata(id));
        if changed {
            self.ensure(levels)?;
        }
        for gone in lower.into_iter().flat_map(|lower| self.lower.entries(lower)) {
            if self.wanted.lookup(id, gone.name).is_none() {
                let directory = self.ensure(levels)?;
                let whiteout = self.builder.insert(directory, gone.name, NodeKind::Whiteout, &self.wanted.metadata(id));
                whiteout.map_err(|fault| TreeError::entry(gone.name, fault))?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// Brings one name of a file.
    fn bring(&mut self, levels: &mut [DirectoryPair<'t>], name: &[u8], id: InodeId) -> Result<(), TreeError> {
        let directory = self.ensure(levels)?;
        let failed = |fault| TreeError::entry(name, fault);
        let Some(known) = self.nodes.get_mut(id.index()) else { return Ok(()) };
        if let Some(node) = *known {
            return self.builder.link(directory, name, node).map_err(failed);
        }
        let node = self.builder.insert(directory, name, self.wanted.kind(id), &self.wanted.metadata(id));
        *known = Some(node.map_err(failed)?);
        Ok(())
    }

    /// Makes sure that the layer has the directories on the way, and returns the last.
    fn ensure(&mut self, levels: &mut [DirectoryPair<'t>]) -> Result<NodeId, TreeError> {
        let mut last = TreeBuilder::ROOT;
        for level in levels {
            last = match level.node {
                Some(node) => node,
                None => {
                    let metadata = self.wanted.metadata(level.id);
                    let made = self.builder.insert(last, level.name, NodeKind::Directory, &metadata);
                    *level.node.insert(made.map_err(|fault| TreeError::entry(level.name, fault))?)
                }
            };
        }
        Ok(last)
    }
}
