//! Conversion records and the node key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use dimsum_events::EventKind;
use dimsum_format::Digest;
use dimsum_store::{Event, EventSink, NodeKey, Record, Store, StoreError, StoreOptions};
use parking_lot::Mutex;

use crate::common::files_named;

#[derive(Debug, Default)]
struct Refusals(Mutex<u32>);

impl EventSink for Refusals {
    fn event(&self, event: Event) {
        if event.kind == EventKind::RecordRefused {
            *self.0.lock() += 1;
        }
    }
}

fn record(number: u8) -> Record {
    let options = format!("slice=262144,number={number}");
    Record { source: Digest::new([number; 32]), options, result: Digest::new([number + 100; 32]) }
}

fn setup() -> (tempfile::TempDir, Store, NodeKey, Arc<Refusals>) {
    let directory = tempfile::tempdir().unwrap();
    let refusals = Arc::new(Refusals::default());
    let options = StoreOptions { events: Some(refusals.clone()), ..StoreOptions::default() };
    let store = Store::open(directory.path().join("store"), options).unwrap();
    let key = NodeKey::open(&directory.path().join("key")).unwrap();
    (directory, store, key, refusals)
}

#[test]
fn a_record_is_found_by_what_was_converted_and_how() {
    let (directory, store, key, refusals) = setup();
    store.put_record(&key, &record(1)).unwrap();
    let again = NodeKey::open(&directory.path().join("key")).unwrap();
    let find = |record: &Record| store.find_record(&again, record.source, &record.options).unwrap();
    assert_eq!(find(&record(1)), Some(record(1).result));
    assert_eq!(find(&record(2)), None);
    assert_eq!(store.find_record(&key, record(1).source, "other options").unwrap(), None);
    assert_eq!(*refusals.0.lock(), 0);
    let long = Record { options: "x".repeat(5000), ..record(1) };
    assert!(matches!(store.put_record(&key, &long), Err(StoreError::Options { .. })));
}

#[test]
fn swapped_records_do_not_verify() {
    let (directory, store, key, refusals) = setup();
    for number in [1, 2] {
        store.put_record(&key, &record(number)).unwrap();
    }
    let files: Vec<_> =
        files_named(&directory.path().join("store"), "packs").into_iter().chain(records(&directory)).collect();
    let [first, second] = &files[..] else { panic!("{files:?}") };
    let (one, two) = (fs::read(first).unwrap(), fs::read(second).unwrap());
    fs::write(first, two).unwrap();
    fs::write(second, one).unwrap();
    for number in [1, 2] {
        assert_eq!(store.find_record(&key, record(number).source, &record(number).options).unwrap(), None);
    }
    assert_eq!(*refusals.0.lock(), 2);
    assert!(store.check(Some(&key), &mut |_| {}).is_damaged());
}

#[test]
fn every_changed_bit_of_a_record_makes_it_absent() {
    let (directory, store, key, _) = setup();
    store.put_record(&key, &record(1)).unwrap();
    let path = records(&directory).remove(0);
    let pristine = fs::read(&path).unwrap();
    let find = || store.find_record(&key, record(1).source, &record(1).options).unwrap();
    for bit in 0..pristine.len() * 8 {
        let mut bytes = pristine.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        assert_eq!(find(), None, "bit {bit}");
    }
    for length in 0..pristine.len() {
        fs::write(&path, &pristine[..length]).unwrap();
        assert_eq!(find(), None, "length {length}");
    }
    fs::write(&path, vec![0; 1 << 20]).unwrap();
    assert_eq!(find(), None);
    // Converting again puts it right.
    store.put_record(&key, &record(1)).unwrap();
    assert_eq!(find(), Some(record(1).result));
    assert!(!store.check(Some(&key), &mut |_| {}).is_damaged());
}

#[test]
fn another_nodes_records_do_not_count() {
    let (directory, store, key, _) = setup();
    let other = NodeKey::open(&directory.path().join("other")).unwrap();
    store.put_record(&other, &record(1)).unwrap();
    assert_eq!(store.find_record(&key, record(1).source, &record(1).options).unwrap(), None);
    // Nor under the name that this node would give them.
    let theirs = fs::read(records(&directory).remove(0)).unwrap();
    store.put_record(&key, &record(1)).unwrap();
    for path in records(&directory) {
        fs::write(path, &theirs).unwrap();
    }
    assert_eq!(store.find_record(&key, record(1).source, &record(1).options).unwrap(), None);
}

#[test]
fn the_key_is_made_once_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    assert!(NodeKey::open(&path).is_ok());
    let bytes = fs::read(&path).unwrap();
    assert_eq!((bytes.len(), fs::metadata(&path).unwrap().permissions().mode() & 0o777), (32, 0o600));
    assert!(NodeKey::open(&path).is_ok());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left over");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(NodeKey::open(&path), Err(StoreError::NodeKey { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, &bytes[..31]).unwrap();
    assert!(matches!(NodeKey::open(&path), Err(StoreError::NodeKey { .. })));
    assert_eq!(fs::read(&path).unwrap().len(), 31, "a damaged key is not replaced unasked");
}

fn records(directory: &tempfile::TempDir) -> Vec<std::path::PathBuf> {
    crate::common::files(&directory.path().join("store").join("records"))
}
