//! The images that are open: one for each digest, however many opened it.
//!
//! A caller that opens an image that is open gets that one; its own sources join those of the image. A caller that
//! opens an image while another does waits for the other's outcome, so the parts of an image are asked for once. If
//! that outcome is an error, it is the answer for all who waited and have only sources that were asked. The others, and
//! all who come later, try again.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use dimsum_format::Digest;
use dimsum_source::Source;
use parking_lot::{Condvar, Mutex};

use crate::error::{ReadError, StoreError};
use crate::fetch::origin::is_equal;
use crate::image::Image;
use crate::load;
use crate::services::Services;

/// Images by the digest of their manifest.
#[derive(Debug, Default)]
pub(crate) struct Images {
    entries: Mutex<HashMap<Digest, ImageEntry>>,
}

#[derive(Debug, Default)]
struct ImageEntry {
    image: Weak<Image>,
    opening: Option<Arc<ImageOpening>>,
}

/// An opening under way.
#[derive(Debug)]
struct ImageOpening {
    /// Sources that it asks.
    sources: Vec<Arc<dyn Source>>,
    outcome: Mutex<Option<Result<Arc<Image>, Arc<StoreError>>>>,
    ended: Condvar,
}

/// What somebody who wants an image does.
enum OpeningTurn<'a> {
    /// Takes it: it is open.
    Take(Arc<Image>),
    /// Waits for another who opens it.
    Wait(Arc<ImageOpening>),
    /// Opens it for all.
    OpeningLead(OpeningLead<'a>),
}

/// The duty to open an image. However it ends, those who wait are answered.
struct OpeningLead<'a> {
    images: &'a Images,
    digest: Digest,
    opening: Arc<ImageOpening>,
}

/// Returns an image that is open, or opens it, blocking.
pub(crate) fn open(
    services: &Arc<Services>,
    images: &Images,
    digest: Digest,
    sources: Vec<Arc<dyn Source>>,
) -> Result<Arc<Image>, StoreError> {
    loop {
        match images.turn(digest, &sources) {
            OpeningTurn::Take(image) => return Ok(image.with_sources(&sources)),
            OpeningTurn::OpeningLead(lead) => return lead.end(load::open(services, digest, &sources)),
            OpeningTurn::Wait(opening) => match opening.wait() {
                Ok(image) => return Ok(image.with_sources(&sources)),
                Err(error) if opening.asks_all_of(&sources) => return Err(error.again()),
                // It has sources that were not asked.
                Err(_) => {}
            },
        }
    }
}

impl Images {
    fn turn(&self, digest: Digest, sources: &[Arc<dyn Source>]) -> OpeningTurn<'_> {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get(&digest) {
            if let Some(image) = entry.image.upgrade() {
                return OpeningTurn::Take(image);
            }
            if let Some(opening) = &entry.opening {
                return OpeningTurn::Wait(Arc::clone(opening));
            }
        }
        // Here, where it grows: entries of closed images go.
        entries.retain(|_, entry| entry.opening.is_some() || entry.image.strong_count() > 0);
        let opening = ImageOpening { sources: sources.to_vec(), outcome: Mutex::default(), ended: Condvar::new() };
        let opening = Arc::new(opening);
        entries.insert(digest, ImageEntry { image: Weak::new(), opening: Some(Arc::clone(&opening)) });
        OpeningTurn::OpeningLead(OpeningLead { images: self, digest, opening })
    }

    /// Takes the outcome of an opening into the table, so that whoever comes now does not wait for it.
    fn ended(&self, digest: Digest, image: Option<&Arc<Image>>) {
        let mut entries = self.entries.lock();
        match image {
            Some(image) => drop(entries.insert(digest, ImageEntry { image: Arc::downgrade(image), opening: None })),
            None => drop(entries.remove(&digest)),
        }
    }
}

impl ImageOpening {
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

impl OpeningLead<'_> {
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

impl Drop for OpeningLead<'_> {
    /// After [`OpeningLead::end`] nothing is left to do; else the opening panicked.
    fn drop(&mut self) {
        if self.opening.outcome.lock().is_none() {
            self.images.ended(self.digest, None);
            let error = StoreError::Meta { image: self.digest, source: Box::new(ReadError::Closed) };
            self.opening.finish(Err(Arc::new(error)));
        }
    }
}
