//! All names of an image in path order, one after the other.
//!
//! Names are taken from a directory some at a time, so memory is bounded by the depth of the tree, not by its width.

use std::cmp::Ordering;
use std::collections::VecDeque;

use dimsum_erofs::ErofsInode;
use dimsum_erofs::limits::MAX_DEPTH;

use crate::EngineError;
use crate::image::fs::{Found, ImageFs, join};

/// Names taken from a directory at once: with 255 bytes each and at the greatest depth, 34 MiB.
const BATCH: usize = 128;

/// A walk under way.
#[derive(Debug)]
pub struct ImageWalk<'i> {
    fs: &'i ImageFs<'i>,
    started: bool,
    /// The directories from the root to where the walk is.
    levels: Vec<ImageLevel>,
}

#[derive(Debug)]
struct ImageLevel {
    path: Vec<u8>,
    directory: ErofsInode,
    /// Names that were taken and not yet given.
    names: VecDeque<(Vec<u8>, u64)>,
    cursor: u64,
    at_end: bool,
}

impl<'i> ImageWalk<'i> {
    /// Starts before the root. The image should have been validated: then no directory is met twice.
    #[must_use]
    pub const fn new(fs: &'i ImageFs<'i>) -> Self {
        Self { fs, started: false, levels: Vec::new() }
    }

    /// Returns the next file, directories before what is in them; none at the end.
    ///
    /// # Errors
    /// If it cannot be read or directories are nested too deep.
    pub fn advance(&mut self) -> Result<Option<Found>, EngineError> {
        if !self.started {
            self.started = true;
            let root = self.fs.root()?;
            self.enter(&root)?;
            return Ok(Some(root));
        }
        while let Some(level) = self.levels.last_mut() {
            let Some((name, nid)) = level.names.pop_front() else {
                if level.at_end {
                    self.levels.pop();
                } else {
                    level.take(self.fs)?;
                }
                continue;
            };
            let path = join(&level.path, &name);
            let inode = self.fs.erofs().inode(nid).map_err(|source| self.fs.fail(&path, source))?;
            let found = Found { path, inode };
            if inode.is_directory() {
                self.enter(&found)?;
            }
            return Ok(Some(found));
        }
        Ok(None)
    }

    fn enter(&mut self, found: &Found) -> Result<(), EngineError> {
        if self.levels.len() > MAX_DEPTH {
            return Err(EngineError::Path { path: found.path.clone(), reason: "directories are nested too deep" });
        }
        let (path, directory) = (found.path.clone(), found.inode);
        self.levels.push(ImageLevel { path, directory, names: VecDeque::new(), cursor: 0, at_end: false });
        Ok(())
    }
}

impl ImageLevel {
    fn take(&mut self, fs: &ImageFs<'_>) -> Result<(), EngineError> {
        let fail = |source| fs.fail(&self.path, source);
        let mut entries = fs.erofs().read_dir(&self.directory, self.cursor).map_err(fail)?;
        for _ in 0..BATCH {
            let Some(entry) = entries.next_entry().map_err(fail)? else {
                self.at_end = true;
                break;
            };
            self.cursor = entry.next;
            if !matches!(entry.name, b"." | b"..") {
                self.names.push_back((entry.name.to_vec(), entry.nid));
            }
        }
        Ok(())
    }
}

/// Compares two paths in the order of a walk: bytewise by component.
#[must_use]
pub fn order(a: &[u8], b: &[u8]) -> Ordering {
    let parts = |path| <[u8]>::split(path, |&byte: &u8| byte == b'/');
    // The root has no component, which a split does not say.
    match (a, b) {
        ([], []) => Ordering::Equal,
        ([], _) => Ordering::Less,
        (_, []) => Ordering::Greater,
        _ => parts(a).cmp(parts(b)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_in_the_order_of_a_walk() {
        let walked: [&[u8]; 7] = [b"", b"a", b"a/b", b"a/b/c", b"a-b", b"a/", b"b"];
        for pair in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 6)] {
            assert_eq!(order(walked[pair.0], walked[pair.1]), Ordering::Less, "{pair:?}");
            assert_eq!(order(walked[pair.1], walked[pair.0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(order(b"a/b", b"a/b"), Ordering::Equal);
    }
}
