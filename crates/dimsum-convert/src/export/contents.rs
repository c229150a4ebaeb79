//! The files of an image and of its layers: their places, their bytes, and whether two of them are equal.
//!
//! A file is remembered as an inode of a meta; its block map is read when it is needed. Two contents are equal
//! if they have the same addresses in the flat image, because a conversion stores equal content once.

use std::ops::Range;

use dimsum_erofs::{Bounds, ErofsImage, ErofsInode, ImageKind, MetaRead, ToTreeError, to_tree, validate};
use dimsum_format::BLOCK_U64;
use dimsum_tree::{ContentId, ContentSource, FileType, Tree, WriteError};

use super::layer_meta::PackLayerMeta;
use super::open::{ExportImage, ReadFailure};
use super::space::{DiskSpace, SpacePlace};
use crate::error::ConvertError;
use crate::progress::ConversionProgress;

/// All files.
pub(super) struct ExportContents<'i> {
    image: &'i dyn ExportImage,
    progress: &'i dyn ConversionProgress,
    /// Whether bytes of files are what progress is told of.
    counts: bool,
    metas: Vec<FlatMeta<'i>>,
    files: Vec<FlatFile>,
    /// The file looked at last: it is asked for piece by piece.
    last: Option<(ContentId, ErofsInode)>,
}

/// A meta or layer meta.
struct FlatMeta<'i> {
    erofs: ErofsImage<FileSource<'i>>,
    space: DiskSpace,
    origin: String,
}

/// A regular file.
#[derive(Clone, Copy)]
struct FlatFile {
    meta: u16,
    nid: u64,
}

/// The bytes of an EROFS image.
enum FileSource<'i> {
    Image(&'i dyn ExportImage),
    Layer(PackLayerMeta),
}

impl MetaRead for FileSource<'_> {
    type Error = ReadFailure;

    fn len(&self) -> u64 {
        match self {
            Self::Image(image) => u64::from(image.maps().erofs_blocks) * BLOCK_U64,
            Self::Layer(layer) => layer.erofs_bytes(),
        }
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ReadFailure> {
        match self {
            Self::Image(image) => image.read_meta(offset, buffer),
            Self::Layer(layer) => layer.read(offset, buffer).map_err(|error| ReadFailure::Unreadable(Box::new(error))),
        }
    }
}

impl<'i> ExportContents<'i> {
    pub(super) fn new(image: &'i dyn ExportImage, progress: &'i dyn ConversionProgress, counts: bool) -> Self {
        Self { image, progress, counts, metas: Vec::new(), files: Vec::new(), last: None }
    }

    /// Reads the image's own tree.
    pub(super) fn image_tree(&mut self) -> Result<Tree, ConvertError> {
        let maps = self.image.maps();
        let space = DiskSpace::of_image(maps);
        let origin = self.image.name().to_owned();
        self.tree(FileSource::Image(self.image), space, maps.meta_blocks, ImageKind::Image, origin)
    }

    /// Reads the tree of a layer, without the files whose data the image does not list, and without sockets.
    pub(super) fn layer_tree(
        &mut self,
        layer: PackLayerMeta,
        index: usize,
        origin: &str,
    ) -> Result<Tree, ConvertError> {
        let space = DiskSpace::of_layer(self.image.maps(), index, layer.length(), layer.references());
        let blocks = u32::try_from(layer.length() / BLOCK_U64).unwrap_or(u32::MAX);
        let tree = self.tree(FileSource::Layer(layer), space, blocks, ImageKind::Layer, origin.to_owned())?;
        let mut whole = vec![true; tree.len()];
        for (id, whole) in tree.ids().zip(&mut whole) {
            let inode = tree.inode(id);
            *whole = match inode.content() {
                Some(content) => self.is_whole(content)?,
                None => inode.file_type() != FileType::Socket,
            };
        }
        let kept = tree.retain(|id, _| whole.get(id.index()) == Some(&true));
        kept.map_err(|source| ConvertError::Tree { origin: origin.to_owned(), source })
    }

    fn tree(
        &mut self,
        bytes: FileSource<'i>,
        space: DiskSpace,
        meta_blocks: u32,
        kind: ImageKind,
        origin: String,
    ) -> Result<Tree, ConvertError> {
        let failed = |error| failed_reading(error, &origin);
        validate(&bytes, Bounds { meta_blocks, devices: space.blocks(), kind }).map_err(failed)?;
        let erofs = ErofsImage::open(bytes).map_err(failed)?;
        let meta = u16::try_from(self.metas.len()).expect("an image has at most 128 packs");
        let files = &mut self.files;
        let tree = to_tree(&erofs, |inode| {
            let id = ContentId::new(u32::try_from(files.len()).expect("129 trees have less than 2^32 inodes"));
            files.push(FlatFile { meta, nid: inode.nid() });
            id
        });
        let tree = tree.map_err(|error| match error {
            ToTreeError::Image { source } => failed(source),
            other => ConvertError::Malformed { object: origin.clone(), source: Box::new(other) },
        })?;
        self.metas.push(FlatMeta { erofs, space, origin });
        Ok(tree)
    }

    /// Says whether two files have the same bytes at the same addresses.
    pub(super) fn same(&mut self, a: ContentId, b: ContentId) -> Result<bool, Box<ConvertError>> {
        let mut at = 0;
        loop {
            let (first, second) = (self.extent(a, at)?, self.extent(b, at)?);
            let (Some((place, length)), Some((other, other_length))) = (first, second) else {
                return Ok(first.is_none() && second.is_none());
            };
            if place != other || place == SpacePlace::Missing {
                return Ok(false);
            }
            at += length.min(other_length);
        }
    }

    /// Says whether the image lists all the data of a file.
    fn is_whole(&mut self, content: ContentId) -> Result<bool, ConvertError> {
        let mut at = 0;
        while let Some((place, length)) = self.extent(content, at).map_err(|error| *error)? {
            if place == SpacePlace::Missing {
                return Ok(false);
            }
            at += length;
        }
        Ok(true)
    }

    /// Returns where the bytes from `offset` on are, and how many lie together; `None` at the end of the file.
    fn extent(&mut self, content: ContentId, offset: u64) -> Result<Option<(SpacePlace, u64)>, Box<ConvertError>> {
        let file = *self.files.get(content.get() as usize).expect("contents are named by this table");
        let meta = self.metas.get(usize::from(file.meta)).expect("files are of metas that were read");
        let failed = |error| failed_reading(error, &meta.origin);
        let inode = match self.last {
            Some((last, inode)) if last == content => inode,
            _ => meta.erofs.inode(file.nid).map_err(failed)?,
        };
        self.last = Some((content, inode));
        let Some(extent) = meta.erofs.map(&inode, offset).map_err(failed)? else { return Ok(None) };
        let Some(at) = extent.flat else { return Ok(Some((SpacePlace::Null, extent.len))) };
        // The tree was validated, so its data lies in devices.
        let place = meta.space.resolve(at, extent.len);
        Ok(Some(place.unwrap_or((SpacePlace::Missing, extent.len))))
    }
}

impl ContentSource for ExportContents<'_> {
    type Error = Box<ConvertError>;

    fn next_data(&mut self, content: ContentId, from: u64) -> Result<Option<Range<u64>>, Box<ConvertError>> {
        let mut at = from;
        while let Some((place, length)) = self.extent(content, at)? {
            let end = at.saturating_add(length);
            if place != SpacePlace::Null {
                return Ok(Some(at..end));
            }
            at = end;
        }
        Ok(None)
    }

    fn read(&mut self, content: ContentId, offset: u64, buffer: &mut [u8]) -> Result<usize, Box<ConvertError>> {
        if self.progress.cancelled() {
            return Err(Box::new(ConvertError::Cancelled));
        }
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..)
            && !rest.is_empty()
            && let Some((place, length)) = self.extent(content, offset.saturating_add(filled as u64))?
        {
            let count = usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()));
            let piece = rest.get_mut(..count).unwrap_or_default();
            match place {
                SpacePlace::Null => piece.fill(0),
                SpacePlace::Flat(flat) => {
                    let done = self.image.read(flat, piece);
                    done.map_err(|error| from_failure(error, self.image.name()))?;
                }
                // A layer's tree is cut down to the data that is there, and the image's lists all data that it uses.
                SpacePlace::Missing => {
                    return Err(Box::new(ConvertError::NotIdentical { image: self.image.name().to_owned() }));
                }
            }
            filled += count;
        }
        if self.counts {
            self.progress.bytes_in(filled as u64);
        }
        Ok(filled)
    }
}

/// Returns the fault of an EROFS image.
fn failed_reading(error: dimsum_erofs::ErofsError<ReadFailure>, origin: &str) -> ConvertError {
    match error {
        dimsum_erofs::ErofsError::Read { source, .. } => from_failure(source, origin),
        other => ConvertError::Malformed { object: origin.to_owned(), source: Box::new(other) },
    }
}

pub(super) fn from_failure(failure: ReadFailure, object: &str) -> ConvertError {
    let object = object.to_owned();
    match failure {
        ReadFailure::Damaged(source) => ConvertError::Damaged { object, source },
        ReadFailure::Unreadable(source) => ConvertError::Unreadable { object, source },
    }
}

/// Says why a tar or directory could not be written.
pub(super) fn failed_writing(error: WriteError<Box<ConvertError>>, target: &str) -> ConvertError {
    match error {
        WriteError::Tree(source) => ConvertError::Tree { origin: target.to_owned(), source },
        WriteError::Content { source, .. } if matches!(*source, ConvertError::Cancelled) => ConvertError::Cancelled,
        WriteError::Content { path, source } => ConvertError::Content { origin: target.to_owned(), path, source },
        WriteError::Output { path, source } => ConvertError::Write { target_name: format!("{target}: {path}"), source },
    }
}
