//! Two images compared, name by name and chunk by chunk, as values that a front shows.

use dimsum_format::Digest;
use dimsum_tree::FileType;
use serde::Serialize;

use crate::analysis::content::DiffSide;
use crate::analysis::diff::{Aspect, Change, Comparer, Counts};
use crate::analysis::sharing::{CommonChunks, common};
use crate::image::fs::{Found, ImageFs};
use crate::image::{Opened, open, validate};
use crate::listing::type_name;
use crate::text::{hex_unless_utf8, total};
use crate::{Engine, EngineError};

/// Two images to compare, and how.
#[derive(Debug, Clone, Default)]
pub struct DiffRequest {
    /// The first image.
    pub a: String,
    /// The second image.
    pub b: String,
    /// Whether file data is never read: a file whose bytes only the data can tell is "unknown" then.
    pub no_data: bool,
    /// Aspects that are not compared.
    pub ignore: Vec<Aspect>,
    /// Whether a directory that only one image has stands for all that is below it.
    pub fold: bool,
    /// Names that are listed at most; the others are counted.
    pub list: u64,
}

/// One name that differs.
#[derive(Debug, Serialize)]
pub struct ChangeRow<'a> {
    /// Lossy where the name is not UTF-8.
    pub path: String,
    /// The exact bytes in hexadecimal digits, where the name is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// `added`, `removed`, `changed` or `unknown`.
    pub change: &'static str,
    /// What differs, of a name that both images have.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub aspects: &'a [Aspect],
    /// In the first image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<FileFacts>,
    /// In the second image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<FileFacts>,
    /// Names in a directory that only one image has, which are not listed.
    #[serde(skip_serializing_if = "is_zero")]
    pub names_below: u64,
    /// Bytes of the files among these.
    #[serde(skip_serializing_if = "is_zero")]
    pub bytes_below: u64,
    /// The exact bytes of the path.
    #[serde(skip)]
    pub raw: &'a [u8],
}

/// A name in one image.
#[derive(Debug, Serialize)]
pub struct FileFacts {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Permissions, in octal digits.
    pub mode: String,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Time of the last change, in seconds since 1970.
    pub mtime: i64,
    /// Nanoseconds of that time.
    pub mtime_nanoseconds: u32,
    /// Whether it is a regular file.
    #[serde(skip)]
    pub is_file: bool,
}

/// The comparison as a whole.
#[derive(Debug, Serialize)]
pub struct DiffSummary {
    /// The first image.
    pub a: DiffedImage,
    /// The second image.
    pub b: DiffedImage,
    /// Names.
    pub files: Counts,
    /// Names that differ and were not listed.
    pub not_listed: u64,
    /// Chunks.
    pub chunks: CommonChunks,
}

/// One of the two images.
#[derive(Debug, Serialize)]
pub struct DiffedImage {
    /// Its name.
    pub image: String,
    /// Its manifest.
    pub manifest: Digest,
    /// Bytes of packs and meta.
    pub stored_bytes: u64,
    /// Of these, the meta.
    pub meta_stored_bytes: u64,
}

impl Engine {
    /// Compares two images. Each name that differs goes to `show`, up to the number that is asked for. Ordinary images
    /// are converted into the store first, once.
    ///
    /// # Errors
    /// If an image cannot be read, or the error of `show`.
    pub fn diff<E: From<EngineError>>(
        &self,
        request: &DiffRequest,
        mut show: impl FnMut(&ChangeRow<'_>) -> Result<(), E>,
    ) -> Result<DiffSummary, E> {
        let (a, b) = (open(self, &request.a)?, open(self, &request.b)?);
        // A walk of a validated tree comes to its end.
        validate(&a)?;
        validate(&b)?;
        let (name_a, name_b) = (a.located.name(), b.located.name());
        let (fs_a, fs_b) = (ImageFs::open(&a.image, &name_a)?, ImageFs::open(&b.image, &name_b)?);
        let comparer = Comparer {
            a: DiffSide { opened: &a, fs: &fs_a },
            b: DiffSide { opened: &b, fs: &fs_b },
            read: !request.no_data,
            ignore: &request.ignore,
            fold: request.fold,
        };
        let (mut listed, mut not_listed) = (0_u64, 0_u64);
        let files = comparer.run(|change| {
            if listed < request.list {
                listed += 1;
                show(&ChangeRow::new(&change))?;
            } else {
                not_listed += 1;
            }
            Ok::<_, E>(())
        })?;
        let chunks = common(a.image.maps(), b.image.maps());
        Ok(DiffSummary { a: DiffedImage::new(&a), b: DiffedImage::new(&b), files, not_listed, chunks })
    }
}

impl<'a> ChangeRow<'a> {
    fn new(change: &'a Change) -> Self {
        let raw = change.path();
        Self {
            path: String::from_utf8_lossy(raw).into_owned(),
            path_hex: hex_unless_utf8(raw),
            change: match (&change.a, &change.b) {
                (None, _) => "added",
                (_, None) => "removed",
                _ if change.aspects == [Aspect::Unknown] => "unknown",
                _ => "changed",
            },
            aspects: &change.aspects,
            a: change.a.as_ref().map(FileFacts::new),
            b: change.b.as_ref().map(FileFacts::new),
            names_below: change.names_below,
            bytes_below: change.bytes_below,
            raw,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl FileFacts {
    fn new(found: &Found) -> Self {
        let inode = &found.inode;
        Self {
            kind: type_name(inode.file_type()),
            mode: format!("{:04o}", inode.permissions()),
            uid: inode.uid(),
            gid: inode.gid(),
            size: inode.size(),
            mtime: inode.mtime().seconds,
            mtime_nanoseconds: inode.mtime().nanoseconds,
            is_file: inode.file_type() == FileType::Regular,
        }
    }
}

impl DiffedImage {
    fn new(opened: &Opened) -> Self {
        let manifest = opened.image.manifest();
        let sizes = manifest.packs.iter().chain([&manifest.meta]).map(|blob| blob.size);
        Self {
            image: opened.located.name(),
            manifest: opened.located.digest,
            stored_bytes: total(sizes),
            meta_stored_bytes: manifest.meta.size,
        }
    }
}
