//! The images that are open: one for each digest, however many opened it.
//!
//! Who opens an image that is open gets that one; its own sources join those of the image. Who opens an image while another does waits
//! for the other's outcome, so the parts of an image are asked for once. If that outcome is an error, it is the answer for all who
//! waited and have no other sources than those that were asked; the others, and whoever comes later, try again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use dimsum_format::Digest;
use dimsum_source::Source;
use parking_lot::{Condvar, Mutex};

use crate::error::{ReadError, StoreError};
use crate::image::Image;
use crate::load;
use crate::origin::is_equal;
use crate::store::Inner;

/// Images by the digest of their manifest.
#[derive(Debug, Default)]
pub(crate) struct Images {
    entries: Mutex<HashMap<Digest, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    image: Weak<Image>,
    opening: Option<Arc<Opening>>,
}

/// An opening under way.
#[derive(Debug)]
struct Opening {
    /// Sources that it asks.
    sources: Vec<Arc<dyn Source>>,
    outcome: Mutex<Option<Result<Arc<Image>, Arc<StoreError>>>>,
    ended: Condvar,
}

/// What somebody who wants an image does.
enum Turn<'a> {
    /// Takes it: it is open.
    Take(Arc<Image>),
    /// Waits for another who opens it.
    Wait(Arc<Opening>),
    /// Opens it for all.
    Lead(Lead<'a>),
}

/// The duty to open an image. However it ends, those who wait are answered.
struct Lead<'a> {
    images: &'a Images,
    digest: Digest,
    opening: Arc<Opening>,
}

/// Returns an image that is open, or opens it, blocking.
pub(crate) fn open(
    inner: &Arc<Inner>,
    digest: Digest,
    sources: Vec<Arc<dyn Source>>,
) -> Result<Arc<Image>, StoreError> {
    loop {
        match inner.images.turn(digest, &sources) {
            Turn::Take(image) => return Ok(image.with_sources(&sources)),
            Turn::Lead(lead) => return lead.end(load::open(inner, digest, sources)),
            Turn::Wait(opening) => match opening.wait() {
                Ok(image) => return Ok(image.with_sources(&sources)),
                Err(error) if opening.asks_all_of(&sources) => return Err(error.again()),
                // It has sources that were not asked.
                Err(_) => {}
            },
        }
    }
}

impl Images {
    fn turn(&self, digest: Digest, sources: &[Arc<dyn Source>]) -> Turn<'_> {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(&digest) {
            if let Some(image) = entry.image.upgrade() {
                return Turn::Take(image);
            }
            if let Some(opening) = &entry.opening {
                return Turn::Wait(Arc::clone(opening));
            }
        }
        // Here, where it grows: entries of closed images go.
        entries.retain(|_, entry| entry.opening.is_some() || entry.image.strong_count() > 0);
        let opening = Opening { sources: sources.to_vec(), outcome: Mutex::default(), ended: Condvar::new() };
        let opening = Arc::new(opening);
        entries.insert(digest, Entry { image: Weak::new(), opening: Some(Arc::clone(&opening)) });
        Turn::Lead(Lead { images: self, digest, opening })
    }

    /// Takes the outcome of an opening into the table, so that whoever comes now does not wait for it.
    fn ended(&self, digest: Digest, image: Option<&Arc<Image>>) {
        let mut entries = self.entries.lock();
        match image {
            Some(image) => drop(entries.insert(digest, Entry { image: Arc::downgrade(image), opening: None })),
            None => drop(entries.remove(&digest)),
        }
    }
}

impl Opening {
    fn asks_all_of(&self, sources: &[Arc<dyn Source>]) -> bool {
        sources.iter().all(|source| self.sources.iter().any(|asked| is_equal(asked, source)))
    }

    /// Waits for its end, which its leader's deadlines bound.
    fn wait(&self) -> Result<Arc<Image>, Arc<StoreError>> {
        let mut outcome = self.outcome.lock();
        loop {
            if let Some(outcome) = &*outcome {
                return outcome.clone();
            }
            self.ended.wait(&mut outcome);
        }
    }

    /// The first outcome counts.
    fn finish(&self, outcome: Result<Arc<Image>, Arc<StoreError>>) {
        self.outcome.lock().get_or_insert(outcome);
        self.ended.notify_all();
    }
}

impl Lead<'_> {
    fn end(self, outcome: Result<Arc<Image>, StoreError>) -> Result<Arc<Image>, StoreError> {
        self.images.ended(self.digest, outcome.as_ref().ok());
        let shared = match &outcome {
            Ok(image) => Ok(Arc::clone(image)),
            Err(error) => Err(Arc::new(error.again())),
        };
        self.opening.finish(shared);
        outcome
    }
}

impl Drop for Lead<'_> {
    /// After [`Lead::end`] nothing is left to do; else the opening panicked.
    fn drop(&mut self) {
        if self.opening.outcome.lock().is_none() {
            self.images.ended(self.digest, None);
            let error = StoreError::Meta { image: self.digest, source: Box::new(ReadError::Closed) };
            self.opening.finish(Err(Arc::new(error)));
        }
    }
}
