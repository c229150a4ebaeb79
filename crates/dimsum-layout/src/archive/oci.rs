//! Reading an OCI layout in a tar.

use std::path::Path;

use dimsum_format::Digest;
use dimsum_format::manifest::Index;
use dimsum_source::{ImageName, Reference, SourceError, SourceFault};

use super::Archive;
use super::content::Content;
use super::fault::ArchiveFault;
use super::members::Members;
use crate::layout::find_named;
use crate::schemes::OCI_ARCHIVE;

/// The listing of a layout.
pub(super) const INDEX: &str = "index.json";
/// Where its blobs are.
pub(super) const BLOBS: &str = "blobs/sha256/";

pub(super) fn open(file: &Path, name: Option<ImageName>) -> Result<Archive, SourceError> {
    let reference = Reference::in_files(OCI_ARCHIVE.name, file, name.clone());
    let (mut content, members) = Content::open(file, reference.to_string())?;
    let name_error = |reason| SourceFault::Name { reason }.at(&content.text);
    let Some(index) = members.file(INDEX) else {
        return Err(name_error(missing(&members)));
    };
    if let Some(link) = members.any_link() {
        let reason = "it is a link, which archives of OCI layouts do not have";
        let (source_name, member) = (content.text.clone(), link.to_owned());
        return Err(ArchiveFault { member, offset: 0, reason }.at(source_name));
    }
    let index = content.listing(INDEX, index)?;
    let format_error = |source| SourceFault::Format { source }.at(&content.text);
    let index = Index::parse(&index).map_err(format_error)?;
    let (root, annotations) = find_named(&index.manifests, name.as_ref()).map_err(name_error)?;
    for (name, range) in members.files() {
        // Blobs of other algorithms cannot be asked for.
        if let Some(digest) = name.strip_prefix(BLOBS).and_then(|hex| Digest::from_hex(hex).ok()) {
            content.store(digest, range);
        }
    }
    Ok(Archive { reference, content, root, annotations })
}

fn missing(members: &Members) -> String {
    let hint = match members.file(super::docker::MANIFEST) {
        Some(_) => "; it is one of docker: write docker-archive:FILE",
        None => "",
    };
    format!("not an archive of an OCI layout: it has no {INDEX}{hint}")
}
