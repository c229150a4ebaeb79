//! One engine for many callers, as a server has it.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::path::Path;
use std::sync::Arc;

use dimsum_engine::image::TryOpened;
use dimsum_engine::{CallerSettings, Engine, EngineConfig, EngineError, ErrorKind};

/// An ordinary image in a layout, part of the repository.
fn ordinary() -> String {
    let layout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/basic-source");
    format!("oci:{}", layout.canonicalize().unwrap().display())
}

fn engine(directory: &Path) -> Engine {
    Engine::new(EngineConfig::new(directory.join("store"), directory.join("node.key")))
}

#[test]
fn an_ordinary_image_is_handed_back_until_it_was_converted() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path());
    let TryOpened::Ordinary(resolved) = engine.try_open(&ordinary()).unwrap() else {
        panic!("an ordinary image was opened without a conversion");
    };
    // By another process, as far as the engine of a server can tell.
    let converted = self::engine(directory.path()).open(&ordinary()).unwrap();
    assert_eq!(converted.located.converted_from, Some(resolved.digest));
    let TryOpened::Opened(opened) = engine.try_open(&ordinary()).unwrap() else {
        panic!("a converted image was not found");
    };
    assert_eq!(opened.located.digest, converted.located.digest);
    // What a server does after a restart.
    let again = engine.reopen(opened.located.digest, &opened.located.origins).unwrap();
    assert!(Arc::ptr_eq(&again, &opened.image));
}

#[test]
fn callers_share_the_store_and_keep_their_own_settings() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path());
    let opened = engine.open(&ordinary()).unwrap();
    let strict = engine.for_caller(CallerSettings { require_digest: true, ..CallerSettings::default() });
    let error = strict.open(&format!("{}:a-tag", ordinary())).unwrap_err();
    assert!(matches!(error, EngineError::Tag { .. }) && error.kind() == ErrorKind::Invalid, "{error:?}");
    let other = engine.for_caller(CallerSettings::default()).open(&ordinary()).unwrap();
    assert!(Arc::ptr_eq(&other.image, &opened.image), "each caller has a store of its own");
}
