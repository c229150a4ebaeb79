//! Paths and files of an opened image, without a mount: every byte comes through the store's gate.

use dimsum_erofs::{ErofsInode, MetaRead};
use dimsum_store::limits::MAX_READ;
use dimsum_store::{Extent, Image, ReadError};
use dimsum_tree::FileType;

use crate::EngineError;
use crate::text::Name;

/// Symbolic links followed on the way; the kernel's limit.
const MAX_LINKS: usize = 40;

/// The EROFS image of an opened image, each read waited for.
#[derive(Debug, Clone, Copy)]
pub struct BlockingMeta<'i>(&'i Image);

impl<'i> BlockingMeta<'i> {
    /// Reads the meta of an image.
    #[must_use]
    pub const fn new(image: &'i Image) -> Self {
        Self(image)
    }
}

impl MetaRead for BlockingMeta<'_> {
    type Error = ReadError;

    fn len(&self) -> u64 {
        u64::from(self.0.maps().erofs_blocks) * dimsum_format::BLOCK_U64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
        self.0.meta().read_blocking(offset, buf)
    }
}

/// The EROFS reader over the gate.
pub type Erofs<'i> = dimsum_erofs::ErofsImage<BlockingMeta<'i>>;

/// The file tree of an opened image.
#[derive(Debug)]
pub struct ImageFs<'i> {
    image: &'i Image,
    erofs: Erofs<'i>,
    object: &'i str,
}

/// A file that a path leads to.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its path without links, from the root; empty for the root itself.
    pub path: Vec<u8>,
    /// The inode.
    pub inode: ErofsInode,
}

impl<'i> ImageFs<'i> {
    /// Opens the file tree. `object` names the image in errors.
    ///
    /// # Errors
    /// If the superblock cannot be read or is none.
    pub fn open(image: &'i Image, object: &'i str) -> Result<Self, EngineError> {
        let erofs = dimsum_erofs::ErofsImage::open(BlockingMeta(image));
        let erofs =
            erofs.map_err(|source| EngineError::Erofs { object: object.to_owned(), source: Box::new(source) })?;
        Ok(Self { image, erofs, object })
    }

    /// Returns the reader.
    #[must_use]
    pub const fn erofs(&self) -> &Erofs<'i> {
        &self.erofs
    }

    /// Gives an error of the reader the name of this image and of a file in it.
    #[must_use]
    pub fn fail(&self, path: &[u8], source: dimsum_erofs::ErofsError<ReadError>) -> EngineError {
        EngineError::Erofs { object: self.name_of(path), source: Box::new(source) }
    }

    fn name_of(&self, path: &[u8]) -> String {
        format!("{} /{}", self.object, Name(path))
    }

    /// Returns the root directory.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn root(&self) -> Result<Found, EngineError> {
        let inode = self.erofs.root().map_err(|source| self.fail(b"", source))?;
        Ok(Found { path: Vec::new(), inode })
    }

    /// Finds what a path leads to, links followed inside the image as if its root were `/`. The last component is
    /// followed only if `follow`.
    ///
    /// # Errors
    /// If there is nothing, or links go round in circles.
    pub fn find(&self, path: &[u8], follow: bool) -> Result<Found, EngineError> {
        let refuse = |reason| EngineError::Path { path: path.to_owned(), reason };
        let mut links = 0;
        // Components still to walk, the next one last.
        let mut todo = components(path);
        let mut trail = vec![self.root()?];
        while let Some(name) = todo.pop() {
            if name == b".." {
                if trail.len() > 1 {
                    trail.pop();
                }
                continue;
            }
            let Some(here) = trail.last() else { return Err(refuse("the image has no root")) };
            if !here.inode.is_directory() {
                return Err(refuse("a part of the path is not a directory"));
            }
            let nid = self.erofs.lookup(&here.inode, &name).map_err(|source| self.fail(&here.path, source))?;
            let nid = nid.ok_or_else(|| refuse("the image has no such file"))?;
            let below = join(&here.path, &name);
            let inode = self.erofs.inode(nid).map_err(|source| self.fail(&below, source))?;
            if inode.file_type() == FileType::Symlink && (follow || !todo.is_empty()) {
                links += 1;
                if links > MAX_LINKS {
                    return Err(refuse("more than 40 symbolic links on the way"));
                }
                let target = self.erofs.read_link(&inode).map_err(|source| self.fail(&below, source))?;
                if target.starts_with(b"/") {
                    trail.truncate(1);
                }
                todo.extend(components(&target));
                continue;
            }
            trail.push(Found { path: below, inode });
        }
        trail.pop().ok_or_else(|| refuse("the image has no root"))
    }

    /// Gives the bytes of a regular file in order to `take`; holes as zeros. `take` returns whether it wants more.
    ///
    /// # Errors
    /// If a byte cannot be had, or `take` fails.
    pub fn read_file<E: From<EngineError>>(
        &self,
        file: &Found,
        mut take: impl FnMut(&[u8]) -> Result<bool, E>,
    ) -> Result<(), E> {
        let mut offset = 0;
        while let Some(extent) = self.erofs.map(&file.inode, offset).map_err(|source| self.fail(&file.path, source))? {
            let length = extent.len.min(MAX_READ);
            let wanted = match extent.flat {
                Some(flat) => Extent::Flat { range: flat..flat.saturating_add(length) },
                None => Extent::Hole { length },
            };
            let bytes = self.image.read_blocking(&[wanted]);
            let bytes = bytes
                .map_err(|source| EngineError::Read { object: self.name_of(&file.path), source: Box::new(source) })?;
            for piece in bytes.slices() {
                if !take(piece)? {
                    return Ok(());
                }
            }
            offset = offset.saturating_add(length);
        }
        Ok(())
    }
}

/// Splits a path; the first component comes last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    let mut parts: Vec<Vec<u8>> = parts.map(<[u8]>::to_vec).collect();
    parts.reverse();
    parts
}

/// Adds a name to a path.
#[must_use]
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_walked_from_its_first_component() {
        assert_eq!(components(b"//a/./b//"), [b"b".to_vec(), b"a".to_vec()]);
        assert!(components(b"/").is_empty());
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a", b"b"), b"a/b");
    }
}
