//! `index.json`: read, and replaced as a whole.

use std::fs::File;
use std::io::Read as _;

use dimsum_format::limits::{MAX_INDEX_MANIFESTS, MAX_MANIFEST_BYTES};
use dimsum_format::manifest::{Descriptor, Index};
use dimsum_format::{FormatError, media};
use dimsum_source::{ErrorKind, SourceError, open_regular};
use serde_json::{Value, json};

use super::{INDEX, OciLayout, io_error};

/// Held while `index.json` is read, changed and replaced.
const LOCK: &str = ".index.lock";

impl OciLayout {
    /// Reads the index.
    pub(super) fn index(&self) -> Result<Index, SourceError> {
        Index::parse(&self.index_bytes()?).map_err(|source| self.format_error(source))
    }

    fn index_bytes(&self) -> Result<Vec<u8>, SourceError> {
        let path = self.dir.join(INDEX);
        let mut bytes = Vec::new();
        // One byte above the limit is enough for the parser to refuse it.
        let read = open_regular(&path).and_then(|file| file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => Ok(bytes),
            Err(error) => Err(io_error(&path, error)),
        }
    }

    /// Adds an image under a tag, in the place of the one that has the tag; without a tag, unless it is listed.
    ///
    /// The document is changed as JSON, so that what other tools wrote into it stays.
    pub(super) fn add_to_index(&self, descriptor: &Descriptor, tag: Option<&str>) -> Result<(), SourceError> {
        let lock_path = self.dir.join(LOCK);
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(|error| io_error(&lock_path, error))?;
        lock.lock().map_err(|error| io_error(&lock_path, error))?;
        let bytes = match self.index_bytes() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => EMPTY.to_vec(),
            Err(error) => return Err(error),
        };
        Index::parse(&bytes).map_err(|source| self.format_error(source))?;
        let json = |source| self.format_error(FormatError::Json { part: "index", source });
        let mut document: Value = serde_json::from_slice(&bytes).map_err(json)?;
        let mut entry = serde_json::to_value(descriptor).map_err(json)?;
        if let (Some(tag), Some(entry)) = (tag, entry.as_object_mut()) {
            entry.insert("annotations".to_owned(), json!({ media::ANNOTATION_REF_NAME: tag }));
        }
        let list = document.get_mut("manifests").and_then(Value::as_array_mut);
        let list = list.expect("the parsed index has manifests");
        place(list, entry, tag);
        if list.len() > MAX_INDEX_MANIFESTS {
            let (value, limit) = (list.len() as u64, MAX_INDEX_MANIFESTS as u64);
            return Err(self.format_error(FormatError::Limit { part: "manifests of the index", value, limit }));
        }
        let bytes = serde_json::to_vec(&document).map_err(json)?;
        self.sync_blobs()?;
        self.replace(INDEX, &bytes)
    }
}

/// An index without images.
pub(super) const EMPTY: &[u8] = br#"{"schemaVersion":2,"manifests":[]}"#;

fn place(list: &mut Vec<Value>, entry: Value, tag: Option<&str>) {
    let same = |each: &Value| match tag {
        Some(tag) => {
            let annotations = each.get("annotations");
            annotations.and_then(|all| all.get(media::ANNOTATION_REF_NAME)).and_then(Value::as_str) == Some(tag)
        }
        None => each.get("digest") == entry.get("digest"),
    };
    let Some(first) = list.iter().position(same) else {
        list.push(entry);
        return;
    };
    if tag.is_some() {
        let mut at = 0;
        list.retain(|each| {
            at += 1;
            at - 1 <= first || !same(each)
        });
        if let Some(old) = list.get_mut(first) {
            *old = entry;
        }
    }
}
