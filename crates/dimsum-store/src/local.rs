//! The store's own packs as the nearest source.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_registry::{BoxFuture, Source, SourceError};
use tokio::sync::oneshot;

use crate::layout::{self, Layout};
use crate::pool::Pool;

/// Reads `packs/`. Reading runs on the decode pool, so no thread is added for it.
#[derive(Debug)]
pub(crate) struct LocalPacks {
    layout: Layout,
    pool: Arc<Pool>,
    name: String,
}

impl LocalPacks {
    pub(crate) fn new(layout: &Layout, pool: &Arc<Pool>) -> Self {
        let name = format!("store:{}", layout.root().display());
        Self { layout: layout.clone(), pool: Arc::clone(pool), name }
    }

    fn find(&self, blob: Digest) -> Result<Option<File>, SourceError> {
        let path = self.layout.pack(blob);
        layout::open_regular(&path, false).map_err(|source| io_error(&path, source))
    }

    fn not_found(&self, digest: Digest) -> SourceError {
        SourceError::NotFound { source_name: self.name.clone(), digest }
    }
}

impl Source for LocalPacks {
    fn name(&self) -> &str {
        &self.name
    }

    fn read_range(&self, blob: Digest, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        Box::pin(async move {
            // Most images have no pack here: finding that out is one lookup, done at once.
            let file = self.find(blob)?.ok_or_else(|| self.not_found(blob))?;
            let path = self.layout.pack(blob);
            let length = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
            let (give, take) = oneshot::channel();
            let start = range.start;
            self.pool.submit(Box::new(move |_| {
                // Nobody listens if the deadline has passed.
                drop(give.send(layout::read_at(&file, length, start)));
            }));
            let cancelled = |_| SourceError::Cancelled { source_name: self.name.clone() };
            let bytes = take.await.map_err(cancelled)?.map_err(|source| io_error(&path, source))?;
            if bytes.len() != length {
                return Err(SourceError::Range { source_name: self.name.clone(), digest: blob, range });
            }
            Ok(bytes.into())
        })
    }

    fn open(&self, blob: Digest) -> Result<Box<dyn Read + Send>, SourceError> {
        let file = self.find(blob)?.ok_or_else(|| self.not_found(blob))?;
        Ok(Box::new(file))
    }

    fn size(&self, blob: Digest) -> Result<Option<u64>, SourceError> {
        let Some(file) = self.find(blob)? else { return Ok(None) };
        let metadata = file.metadata().map_err(|source| io_error(&self.layout.pack(blob), source))?;
        Ok(Some(metadata.len()))
    }
}

pub(crate) fn io_error(path: &Path, source: io::Error) -> SourceError {
    SourceError::Io { path: path.display().to_string(), source }
}
