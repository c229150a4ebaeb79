//! The images that a conversion shares with: named by the caller, opened before anything is read.

use std::sync::Arc;

use dimsum_convert::{PackReuse, SharingFrom};
use dimsum_source::{Place, Target};

use crate::image::{open_place, parse};
use crate::{Engine, EngineError, RequestFault};

/// What a conversion may take from images that are there already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SharingRequest {
    /// Dimsum images to whose packs the new image may refer, the best first. The same images in the same order give the
    /// same bytes.
    pub with: Vec<String>,
    /// Whether the image that the target's name stands for now comes first, and the one that it followed.
    pub auto: bool,
    /// Whether packs that exist for the same layers are re-used; none takes the usual way.
    pub reuse: Option<PackReuse>,
    /// Dimsum images, named by their digests, whose packs may be re-used.
    pub reuse_from: Vec<String>,
}

impl SharingRequest {
    /// Says whether anything was asked for.
    #[must_use]
    pub fn is_given(&self) -> bool {
        self.auto || !self.with.is_empty() || !self.reuse_from.is_empty() || self.reuse.is_some()
    }

    /// Refuses wishes that cannot do anything without a target.
    ///
    /// # Errors
    /// [`EngineError::Request`] if there are such wishes.
    pub fn check_without_target(&self) -> Result<(), EngineError> {
        if self.auto {
            return Err(refused("auto", RequestFault::AutoWithoutTarget));
        }
        let looks_for_tags = self.reuse.is_some_and(|reuse| reuse != PackReuse::Never) && self.reuse_from.is_empty();
        if looks_for_tags { Err(refused("re-use", RequestFault::ReuseWithoutTarget)) } else { Ok(()) }
    }

    /// Opens the images that are named.
    pub(crate) fn open(&self, engine: &Engine) -> Result<SharingPlaces, EngineError> {
        if self.reuse == Some(PackReuse::Never) && !self.reuse_from.is_empty() {
            return Err(refused("re-use", RequestFault::ReuseForbidden));
        }
        for text in &self.reuse_from {
            if !parse(engine, text)?.is_pinned() {
                return Err(refused(text, RequestFault::ReuseByTag));
            }
        }
        let open = |text: &String| open_place(engine, &parse(engine, text)?);
        Ok(SharingPlaces {
            auto: self.auto,
            with: self.with.iter().map(open).collect::<Result<_, _>>()?,
            reuse: self.reuse.unwrap_or_default(),
            reuse_from: self.reuse_from.iter().map(open).collect::<Result<_, _>>()?,
        })
    }
}

fn refused(object: &str, fault: RequestFault) -> EngineError {
    EngineError::Request { object: object.to_owned(), fault }
}

/// Images to share with, opened.
#[derive(Debug)]
pub(crate) struct SharingPlaces {
    auto: bool,
    with: Vec<Arc<dyn Place>>,
    reuse: PackReuse,
    reuse_from: Vec<Arc<dyn Place>>,
}

impl SharingPlaces {
    /// Says whether the image that the target's name stands for is one of them.
    pub(super) const fn is_auto(&self) -> bool {
        self.auto
    }

    /// Says why packs of the same layers are not looked for, if so; `shares` if there are images to share with.
    pub(super) fn no_reuse(&self, shares: bool) -> Option<&'static str> {
        match self.reuse {
            PackReuse::Never => Some("none is to be re-used"),
            _ if shares => Some("the packs of the images to share with are referred to instead"),
            _ => None,
        }
    }

    /// Returns what a target makes impossible that was asked for.
    pub(super) fn in_vain(&self, target: &dyn Target) -> Option<&'static str> {
        let archive = self.auto && target.place().is_none();
        archive.then_some(
            "auto shares nothing here: an archive is written anew, without what it had before; name the image instead",
        )
    }

    /// Returns them as a conversion takes them.
    pub(crate) fn sharing(&self) -> SharingFrom<'_> {
        SharingFrom {
            with: self.with.iter().map(|place| &**place).collect(),
            auto: self.auto,
            reuse: self.reuse,
            reuse_from: self.reuse_from.iter().map(|place| &**place).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(result: Result<(), EngineError>) -> Option<RequestFault> {
        result.err().map(|error| match error {
            EngineError::Request { fault, .. } => fault,
            other => panic!("{other}"),
        })
    }

    #[test]
    fn wishes_that_look_into_a_target_are_refused_without_one() {
        let none = SharingRequest::default();
        assert_eq!((none.is_given(), fault(none.check_without_target())), (false, None));
        let auto = SharingRequest { auto: true, ..none.clone() };
        assert_eq!(
            (auto.is_given(), fault(auto.check_without_target())),
            (true, Some(RequestFault::AutoWithoutTarget))
        );
        let tags = SharingRequest { reuse: Some(PackReuse::Trust), ..none.clone() };
        assert_eq!(fault(tags.check_without_target()), Some(RequestFault::ReuseWithoutTarget));
        // These look elsewhere, or nowhere.
        let named = SharingRequest { reuse_from: vec!["oci:x@sha256:00".to_owned()], ..tags };
        let never = SharingRequest { reuse: Some(PackReuse::Never), ..none };
        assert_eq!((fault(named.check_without_target()), fault(never.check_without_target())), (None, None));
    }

    #[test]
    fn packs_are_taken_only_of_images_that_their_digest_names() {
        let scratch = tempfile::tempdir().unwrap();
        let engine = Engine::new(crate::EngineConfig::new(scratch.path().join("store"), scratch.path().join("key")));
        let tag = SharingRequest { reuse_from: vec!["oci:/nowhere:v1".to_owned()], ..SharingRequest::default() };
        assert_eq!(fault(tag.open(&engine).map(drop)), Some(RequestFault::ReuseByTag));
        let never = SharingRequest { reuse: Some(PackReuse::Never), ..tag };
        assert_eq!(fault(never.open(&engine).map(drop)), Some(RequestFault::ReuseForbidden));
    }
}
