//! An opened image for callers who want files, not extents.

use std::io::Write;

use dimsum_tree::FileType;

use super::Opened;
use super::fs::ImageFs;
use crate::EngineError;

/// Names that [`Opened::list`] returns at most: a directory with more does not fit a caller that wants them all at once.
const MAX_LISTED: usize = 1 << 20;

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedFile {
    /// Its name; any bytes but `/` and NUL.
    pub name: Vec<u8>,
    /// What kind of file it is.
    pub file_type: FileType,
    /// Bytes of a regular file.
    pub size: u64,
}

impl Opened {
    /// Writes a regular file to `out` and returns its length. Links are followed inside the image. Every byte is
    /// proven before it is written; what was written before an error is right.
    ///
    /// # Errors
    /// If the path leads to no regular file, if a byte cannot be had or does not prove, or `out` fails.
    pub fn read(&self, path: &str, out: &mut dyn Write) -> Result<u64, EngineError> {
        let name = self.located.name();
        let fs = ImageFs::open(&self.image, &name)?;
        let found = fs.find(path.as_bytes(), true)?;
        if found.inode.file_type() != FileType::Regular {
            return Err(EngineError::Path { path: found.path, reason: "not a regular file" });
        }
        let mut length = 0_u64;
        fs.read_file(&found, |bytes| {
            out.write_all(bytes).map_err(|source| EngineError::Output { object: path.to_owned(), source })?;
            length = length.saturating_add(bytes.len() as u64);
            Ok::<_, EngineError>(true)
        })?;
        Ok(length)
    }

    /// Lists a directory, without `.` and `..`, in the order of the image: by name.
    ///
    /// # Errors
    /// If the path leads to no directory, if it has more than a million names, or a byte cannot be had or does not
    /// prove.
    pub fn list(&self, path: &str) -> Result<Vec<ListedFile>, EngineError> {
        let name = self.located.name();
        let fs = ImageFs::open(&self.image, &name)?;
        let directory = fs.find(path.as_bytes(), true)?;
        if !directory.inode.is_directory() {
            return Err(EngineError::Path { path: directory.path, reason: "not a directory" });
        }
        let mut listed = Vec::new();
        let mut entries =
            fs.erofs().read_dir(&directory.inode, 0).map_err(|source| fs.fail(&directory.path, source))?;
        while let Some(entry) = entries.next_entry().map_err(|source| fs.fail(&directory.path, source))? {
            if matches!(entry.name, b"." | b"..") {
                continue;
            }
            if listed.len() >= MAX_LISTED {
                return Err(EngineError::Path { path: directory.path, reason: "the directory has too many names" });
            }
            let inode = fs.erofs().inode(entry.nid).map_err(|source| fs.fail(&directory.path, source))?;
            listed.push(ListedFile { name: entry.name.to_vec(), file_type: inode.file_type(), size: inode.size() });
        }
        Ok(listed)
    }
}
