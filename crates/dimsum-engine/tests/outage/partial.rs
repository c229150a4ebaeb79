//! Images that are complete in the store start whatever their registry answers.

use dimsum_engine::image::{find_in_store, open};
use dimsum_engine::{CancelReason, CancelToken, EngineError, ErrorKind};
use dimsum_testing::outage::{Fault, REPOSITORY, RequestKind};

use crate::node::{FILES, Node, TAG, content, read};

/// The requests that bring an image.
const DOCUMENTS_AND_DATA: [RequestKind; 5] = [
    RequestKind::ManifestByTag,
    RequestKind::ManifestByDigest,
    RequestKind::Config,
    RequestKind::Meta,
    RequestKind::Pack,
];

fn assert_complete(node: &Node, name: &str) -> Vec<String> {
    let (engine, notes) = node.engine();
    let opened = open(&engine, name).unwrap();
    assert_eq!(opened.located.digest, node.digest);
    FILES.iter().for_each(|file| assert_eq!(read(&opened, file).unwrap(), content(file), "{file}"));
    std::mem::take(&mut notes.0.lock().unwrap())
}

#[test]
fn a_pinned_image_that_is_complete_here_asks_for_nothing() {
    let node = Node::new();
    let pinned = node.registry.pinned(node.digest);
    node.warm(&pinned, &FILES);
    for fault in Fault::ALL {
        node.fail(&DOCUMENTS_AND_DATA, fault);
        assert!(assert_complete(&node, &pinned).is_empty());
        assert!(node.registry.counts().is_empty(), "{fault:?}");
    }
}

#[test]
fn a_warm_image_asks_for_nothing_but_the_manifest_of_its_tag() {
    let node = Node::new();
    let name = node.registry.reference(TAG);
    node.warm(&name, &FILES);
    assert!(assert_complete(&node, &name).is_empty());
    let asked = DOCUMENTS_AND_DATA.map(|kind| node.registry.count(kind));
    assert_eq!(asked, [1, 0, 0, 0, 0]);
}

#[test]
fn a_cold_image_is_asked_for_each_document_once() {
    let node = Node::new();
    let (engine, _) = node.engine();
    drop(open(&engine, &node.registry.reference(TAG)).unwrap());
    let documents = [RequestKind::ManifestByTag, RequestKind::ManifestByDigest, RequestKind::Config];
    let asked = documents.map(|kind| node.registry.count(kind));
    assert_eq!(asked, [1, 0, 1], "{:?}", node.registry.counts());
}

#[test]
fn blobs_that_the_registry_does_not_give_keep_no_complete_image_from_its_start() {
    let node = Node::new();
    let name = node.registry.reference(TAG);
    node.warm(&name, &FILES);
    for fault in Fault::ALL {
        node.fail(&[RequestKind::Config, RequestKind::Meta, RequestKind::Pack], fault);
        assert!(assert_complete(&node, &name).is_empty(), "{fault:?}");
    }
}

#[test]
fn a_tag_that_cannot_be_asked_for_is_what_this_node_remembers_and_the_user_is_told_once() {
    let node = Node::new();
    let name = node.registry.reference(TAG);
    node.warm(&name, &FILES);
    for fault in Fault::ALL {
        node.fail(&[RequestKind::ManifestByTag], fault);
        let notes = assert_complete(&node, &name);
        let [note] = &notes[..] else { panic!("{fault:?}: {notes:?}") };
        assert!(note.contains("using the image that this node has"), "{fault:?}: {note}");
        if let Fault::Status(status) = fault {
            let told = match status {
                401 | 403 => REPOSITORY,
                404 => "v1",
                _ => &status.to_string(),
            };
            assert!(note.contains(told), "{fault:?}: {note}");
        }
    }
}

#[test]
fn what_the_store_has_is_found_whatever_the_registry_answers() {
    let node = Node::new();
    let name = node.registry.reference(TAG);
    node.warm(&name, &FILES);
    for fault in Fault::ALL {
        node.fail(&[RequestKind::ManifestByTag], fault);
        let (engine, _) = node.engine();
        assert_eq!(find_in_store(&engine, &name).unwrap().digest, node.digest, "{fault:?}");
    }
}

#[test]
fn an_image_that_is_not_here_fails_as_its_registry_says() {
    let node = Node::new();
    let kind = |fault| {
        node.fail(&[RequestKind::ManifestByTag], fault);
        let (engine, _) = node.engine();
        open(&engine, &node.registry.reference(TAG)).unwrap_err().kind()
    };
    assert_eq!(kind(Fault::Status(401)), ErrorKind::Denied);
    assert_eq!(kind(Fault::Status(404)), ErrorKind::NotFound);
}

#[test]
fn a_cancelled_open_does_not_wait_for_a_registry_that_hangs() {
    let node = Node::new();
    node.fail(&[RequestKind::ManifestByTag], Fault::Hang);
    let (engine, _) = node.engine();
    let cancel = CancelToken::new();
    cancel.cancel(CancelReason::Caller);
    let error = open(&engine.with_cancel(cancel), &node.registry.reference(TAG)).unwrap_err();
    assert!(matches!(error, EngineError::Cancelled { reason: CancelReason::Caller }), "{error:?}");
}
