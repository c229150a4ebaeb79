//! Records of local conversions, the one thing in the store that cannot be proven without its source.
//!
//! A record says: this source manifest, converted with these options, became that manifest of ours. It is authenticated
//! under the node key, which lies outside the store. Its file name is a keyed hash of the question that it answers, and
//! that question stands in it too. So a record under another's name does not verify. Whatever does not verify counts as
//! absent: converting again is always right.

use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use dimsum_format::{Blake3, Digest};

use crate::disk::layout::{self, StagedFile};
use crate::error::StoreError;
use crate::limits::{MAX_OPTIONS_TEXT, MAX_RECORD};
use crate::stats::{Event, EventKind};
use crate::store::Store;

/// First bytes of a record.
const MAGIC: [u8; 8] = *b"DIMSUMR1";
/// Bytes before the options: magic, source, result.
const HEAD: usize = 8 + 32 + 32;
/// Bytes of the authenticator at the end.
const MAC: usize = 32;
/// Bytes of the node key.
const KEY: usize = 32;
/// Separates the two uses of the node key.
const NAME_CONTEXT: &str = "dimsum conversion record v1 name";
/// See [`NAME_CONTEXT`].
const MAC_CONTEXT: &str = "dimsum conversion record v1 authenticator";

/// The key of this node, kept outside the store: who can write the store cannot make records.
#[derive(Clone)]
pub struct NodeKey([u8; KEY]);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key itself.
        f.write_str("NodeKey")
    }
}

impl NodeKey {
    /// Reads the key from `path`, making it (mode 0600) at the first use. Its directory must exist.
    ///
    /// # Errors
    /// If it cannot be read or made, has another length, or others may read it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if let Some(key) = Self::read(path)? {
            return Ok(key);
        }
        match make_key(path) {
            // Somebody else was first: theirs is the key.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(|error| StoreError::io(path, error))?,
        }
        Self::read(path)?.ok_or_else(|| StoreError::io(path, io::ErrorKind::NotFound))
    }

    fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let failed = |error| StoreError::io(path, error);
        let refused = |reason| StoreError::NodeKey { path: path.to_owned(), reason };
        let Some(file) = layout::open_regular(path, false).map_err(failed)? else { return Ok(None) };
        let metadata = file.metadata().map_err(failed)?;
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(refused("others than its owner may read or write it; make a new one"));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(refused("it belongs to another user"));
        }
        let bytes = layout::read_at(&file, KEY + 1, 0).map_err(failed)?;
        let key = bytes.try_into().map_err(|_| refused("it does not have 32 bytes; remove it to make a new one"))?;
        Ok(Some(Self(key)))
    }

    /// The name of the record that answers for `source` and `options`.
    fn name(&self, source: Digest, options: &str) -> Blake3 {
        let mut hasher = self.hasher(NAME_CONTEXT);
        hasher.update(source.as_bytes()).update(options.as_bytes());
        Blake3::new(*hasher.finalize().as_bytes())
    }

    fn mac(&self, body: &[u8]) -> blake3::Hash {
        self.hasher(MAC_CONTEXT).update(body).finalize()
    }

    fn hasher(&self, context: &str) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&blake3::derive_key(context, &self.0))
    }
}

/// Makes a key file that appears whole or not at all, and never replaces one.
fn make_key(path: &Path) -> io::Result<()> {
    let mut key = [0; KEY];
    let got = rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
    if got != KEY {
        // The kernel gives up to 256 bytes at once.
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut temporary = StagedFile::create(layout::directory_of(path))?;
    temporary.file.write_all(&key)?;
    temporary.place_new(path)
}

/// What was converted, how, and into what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Manifest of the source image.
    pub source: Digest,
    /// All options that change the result, as canonical text.
    pub options: String,
    /// Our manifest.
    pub result: Digest,
}

impl Record {
    fn to_bytes(&self, key: &NodeKey) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(self.source.as_bytes());
        bytes.extend_from_slice(self.result.as_bytes());
        bytes.extend_from_slice(self.options.as_bytes());
        let mac = key.mac(&bytes);
        bytes.extend_from_slice(mac.as_bytes());
        bytes
    }

    /// Parses a record and checks its authenticator; the options are what is between head and authenticator.
    fn parse(bytes: &[u8], key: &NodeKey) -> Option<Self> {
        let (body, mac) = bytes.split_last_chunk::<MAC>()?;
        // Equality of `blake3::Hash` takes constant time.
        if key.mac(body) != blake3::Hash::from_bytes(*mac) {
            return None;
        }
        let (head, options) = body.split_at_checked(HEAD)?;
        let (magic, digests) = head.split_first_chunk::<8>()?;
        let (source, result) = digests.split_first_chunk::<32>()?;
        let options = String::from_utf8(options.to_vec()).ok()?;
        let result = result.try_into().ok()?;
        (*magic == MAGIC).then(|| Self { source: Digest::new(*source), options, result: Digest::new(result) })
    }
}

impl Store {
    /// Stores a record, durable when this returns.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn put_record(&self, key: &NodeKey, record: &Record) -> Result<(), StoreError> {
        let length = record.options.len();
        if length > MAX_OPTIONS_TEXT {
            return Err(StoreError::Options { length, limit: MAX_OPTIONS_TEXT });
        }
        let path = self.record_path(key, record.source, &record.options);
        layout::put_file(&path, &record.to_bytes(key), true).map_err(|error| StoreError::io(&path, error))
    }

    /// Returns our manifest for a source manifest that was converted here with these options. A record that does not verify is
    /// reported as an event and counts as absent.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn find_record(&self, key: &NodeKey, source: Digest, options: &str) -> Result<Option<Digest>, StoreError> {
        let path = self.record_path(key, source, options);
        let bytes = match layout::read_small(&path, MAX_RECORD) {
            Ok(None) => return Ok(None),
            Ok(Some(bytes)) => bytes,
            // Too long, or no file: not a record.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Vec::new(),
            Err(error) => return Err(StoreError::io(&path, error)),
        };
        let record = Record::parse(&bytes, key).filter(|record| record.source == source && record.options == options);
        if record.is_none()
            && let Some(sink) = self.services().events()
        {
            sink.event(Event::new(EventKind::RecordRefused).path(path));
        }
        Ok(record.map(|record| record.result))
    }

    fn record_path(&self, key: &NodeKey, source: Digest, options: &str) -> PathBuf {
        self.services().layout().record(key.name(source, options))
    }
}

/// Says whether the file named `name` holds the record of that name.
pub(crate) fn is_record(name: Blake3, bytes: &[u8], key: &NodeKey) -> bool {
    Record::parse(bytes, key).is_some_and(|record| key.name(record.source, &record.options) == name)
}
