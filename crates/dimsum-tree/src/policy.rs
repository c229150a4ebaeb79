//! The policy for entries that are dropped or refused, and the report of them.

use crate::error::{EntryFault, PathName};
use crate::limits::MAX_REPORTED;
use crate::types::{FileType, Xattr};
use crate::xattrs::is_file_xattr;

/// How a source is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Policy {
    /// The treatment of entries that overlayfs gives a meaning.
    pub overlay_entries: OverlayEntries,
}

/// The treatment of character devices 0:0 and of the xattrs `trusted.overlay.*` and `user.overlay.*` of a source.
///
/// In the lower directory of an overlay mount they would hide files, or show files that are not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OverlayEntries {
    /// The source is refused, and the error names the entry.
    #[default]
    Refuse,
    /// They are left out and reported.
    Drop,
}

/// The findings in a source besides the tree.
#[derive(Clone, Debug, Default)]
pub struct LayerReport {
    /// Entries of the source.
    pub entries: u64,
    /// Extended attributes left out: those that Linux does not have (as `com.apple.*`), and `user.*` of inodes that are
    /// neither files nor directories.
    pub dropped_xattrs: u64,
    /// Things left out by [`OverlayEntries::Drop`].
    pub dropped_overlay: u64,
    /// Entries ignored because they are notes of aufs (`.wh..wh.*`).
    pub aufs_entries: u64,
    /// The first [`MAX_REPORTED`](crate::limits::MAX_REPORTED) things left out.
    pub dropped: Vec<Dropped>,
}

/// One thing left out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dropped {
    /// The entry it belongs to, as the source names it.
    pub path: PathName,
    /// Its kind.
    pub what: What,
}

/// The left-out entries.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum What {
    /// An extended attribute.
    Xattr {
        /// Its name.
        name: PathName,
    },
    /// The whole entry: a character device 0:0.
    Device,
}

impl LayerReport {
    fn drop(&mut self, path: &[u8], what: What) {
        if self.dropped.len() < MAX_REPORTED {
            self.dropped.push(Dropped { path: path.into(), what });
        }
    }
}

impl Policy {
    /// Notes that a character device 0:0 is left out, or refuses it.
    pub(crate) fn device_zero(self, path: &[u8], report: &mut LayerReport) -> Result<(), EntryFault> {
        match self.overlay_entries {
            OverlayEntries::Refuse => Err(EntryFault::DeviceZero),
            OverlayEntries::Drop => {
                report.dropped_overlay += 1;
                report.drop(path, What::Device);
                Ok(())
            }
        }
    }

    /// Removes attributes that are not kept with a file of this type.
    pub(crate) fn filter_xattrs(
        self,
        path: &[u8],
        file_type: FileType,
        xattrs: &mut Vec<Xattr>,
        report: &mut LayerReport,
    ) -> Result<(), EntryFault> {
        let mut refused = None;
        xattrs.retain(|Xattr { name, .. }| {
            let count = match verdict(name, file_type) {
                Verdict::Keep => return true,
                Verdict::Drop => &mut report.dropped_xattrs,
                Verdict::Overlay => &mut report.dropped_overlay,
            };
            *count += 1;
            report.drop(path, What::Xattr { name: PathName::from(&**name) });
            if verdict(name, file_type) == Verdict::Overlay {
                refused.get_or_insert_with(|| PathName::from(&**name));
            }
            false
        });
        match (self.overlay_entries, refused) {
            (OverlayEntries::Refuse, Some(name)) => Err(EntryFault::OverlayXattr { name }),
            _ => Ok(()),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Verdict {
    Keep,
    Drop,
    Overlay,
}

fn verdict(name: &[u8], file_type: FileType) -> Verdict {
    if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
        return Verdict::Overlay;
    }
    // Linux has user.* on files and directories only, and runtimes leave them out elsewhere.
    let place = matches!(file_type, FileType::Regular | FileType::Directory) || !name.starts_with(b"user.");
    if is_file_xattr(name) && place { Verdict::Keep } else { Verdict::Drop }
}
