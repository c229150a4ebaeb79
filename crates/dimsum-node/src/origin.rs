//! Where blobs come from, as a client writes it.

use std::sync::Arc;

use dimsum_registry::{OciLayout, Reference, Source, SourceError};

/// Opens an origin by its reference.
pub type OriginOpener = fn(&str) -> Result<Arc<dyn Source>, SourceError>;

/// Opens an OCI layout (`oci:DIR[:TAG]`; which image of it is meant does not matter here).
///
/// # Errors
/// If there is none, or the reference is of another kind.
pub fn open_origin(reference: &str) -> Result<Arc<dyn Source>, SourceError> {
    match Reference::parse(reference)? {
        Reference::OciLayout { dir, .. } => Ok(Arc::new(OciLayout::open(dir, None)?)),
        _ => Err(SourceError::Name {
            source_name: reference.to_owned(),
            reason: "blobs cannot come from here; use oci:DIR".to_owned(),
        }),
    }
}

/// Opens what can be opened; the rest is returned as reasons. A place that moved away is no error as long as nothing is
/// needed from it.
pub(crate) fn open_all(open: OriginOpener, references: &[String]) -> (Vec<Arc<dyn Source>>, Vec<String>) {
    let mut sources = Vec::new();
    let mut skipped = Vec::new();
    for reference in references {
        match open(reference) {
            Ok(source) => sources.push(source),
            Err(error) => skipped.push(error.to_string()),
        }
    }
    (sources, skipped)
}
