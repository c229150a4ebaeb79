//! A node with a store, and an image that a scripted registry has.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dimsum_convert::{ConvertOptions, Input, convert};
use dimsum_engine::image::fs::ImageFs;
use dimsum_engine::image::{Opened, open};
use dimsum_engine::{Engine, EngineConfig, EngineError, Progress, ProgressPhase, Quiet};
use dimsum_format::Digest;
use dimsum_layout::OciLayout;
use dimsum_registry::Timing;
use dimsum_source::ImageName;
use dimsum_testing::outage::{Fault, OutageRegistry, RequestKind};
use tempfile::TempDir;

/// The tag of the image.
pub(crate) const TAG: &str = "v1";
/// Names of its files. Each is larger than a slice, so that none is fetched with another.
pub(crate) const FILES: [&str; 2] = ["read-before", "never-read"];
/// Bytes of each: several slices.
const FILE_BYTES: usize = 1 << 20;

/// An image in a layout.
pub(crate) struct SourceImage {
    dir: TempDir,
    /// Digest of its manifest.
    digest: Digest,
}

impl SourceImage {
    pub(crate) fn new() -> Arc<Self> {
        let dir = scratch();
        let tree = dir.path().join("tree");
        fs::create_dir(&tree).unwrap();
        for file in FILES {
            fs::write(tree.join(file), content(file)).unwrap();
        }
        let target = OciLayout::create(dir.path().join("layout"), Some(ImageName::Tag(TAG.to_owned()))).unwrap();
        let converted = convert(Input::Directory { path: &tree }, &target, &ConvertOptions::default(), &()).unwrap();
        Arc::new(Self { dir, digest: converted.manifest })
    }
}

/// A store, and a registry that serves an image.
pub(crate) struct Node {
    dir: TempDir,
    pub(crate) registry: OutageRegistry,
    /// Digest of the image's manifest.
    pub(crate) digest: Digest,
    _image: Arc<SourceImage>,
}

fn scratch() -> TempDir {
    tempfile::Builder::new().prefix("dimsum-test-").tempdir_in("/var/tmp").unwrap()
}

impl Node {
    /// Makes the image; nothing of it is in the store.
    pub(crate) fn new() -> Self {
        Self::with(&SourceImage::new())
    }

    /// As [`Node::new`], with an image that was made before.
    pub(crate) fn with(image: &Arc<SourceImage>) -> Self {
        let registry = OutageRegistry::serve(&image.dir.path().join("layout"));
        Self { dir: scratch(), registry, digest: image.digest, _image: Arc::clone(image) }
    }

    /// Returns an engine as a new process would have it: it knows what is on disk, and what it says is kept. It waits for a
    /// registry about as long as these tests can.
    pub(crate) fn engine(&self) -> (Engine, Arc<Notes>) {
        let mut config = self.config();
        config.timing = Timing {
            idle: Duration::from_secs(1),
            total: Duration::from_secs(2),
            pause: Duration::from_millis(1),
            longest_retry_after: Duration::from_millis(1),
            tries: 2,
            ..Timing::default()
        };
        config.known_deadline = Duration::from_secs(1);
        config.store_options.request_deadline = Duration::from_secs(1);
        let notes = Arc::new(Notes::default());
        (Engine::new(config).with_progress(Arc::clone(&notes) as Arc<dyn Progress>), notes)
    }

    fn config(&self) -> EngineConfig {
        let mut config = EngineConfig::new(self.store(), self.dir.path().join("node.key"));
        config.access.plain_http = true;
        config
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// Brings files of the image into the store, by name.
    pub(crate) fn warm(&self, name: &str, files: &[&str]) {
        let engine = Engine::new(self.config());
        let opened = open(&engine, name).unwrap();
        files.iter().for_each(|file| assert_eq!(read(&opened, file).unwrap(), content(file)));
        self.registry.reset_counts();
    }

    /// From now on these requests fail so, and all others are answered.
    pub(crate) fn fail(&self, kinds: &[RequestKind], fault: Fault) {
        self.registry.heal();
        self.registry.script_all(kinds, fault);
    }
}

/// Bytes that a file must have: not compressible, the same each time.
pub(crate) fn content(file: &str) -> Vec<u8> {
    let mut state = u64::from_le_bytes(Digest::of(file.as_bytes()).as_bytes()[..8].try_into().unwrap());
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(FILE_BYTES).collect()
}

/// Reads a file of an opened image.
pub(crate) fn read(opened: &Opened, file: &str) -> Result<Vec<u8>, EngineError> {
    let name = opened.located.name();
    let fs = ImageFs::open(&opened.image, &name)?;
    let found = fs.find(file.as_bytes(), true)?;
    let mut bytes = Vec::new();
    fs.read_file(&found, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<_, EngineError>(true)
    })?;
    Ok(bytes)
}

/// What an engine says to its user.
#[derive(Debug, Default)]
pub(crate) struct Notes(pub(crate) Mutex<Vec<String>>);

impl Progress for Notes {
    fn phase(&self, _what: &str, _total: Option<u64>) -> Box<dyn ProgressPhase> {
        Box::new(Quiet)
    }

    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.to_owned());
    }

    fn explain(&self, _line: &str) {}
}
