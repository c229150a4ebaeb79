//! Every request × every failure × what the node has: the table in `docs/outages.md` is what comes out here.
//!
//! `DIMSUM_BLESS=1` writes the table anew.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use dimsum_engine::image::open;
use dimsum_engine::{EngineError, ErrorKind};
use dimsum_testing::outage::RequestKind::{Config, ManifestByDigest, ManifestByTag, Meta, Pack, Token};
use dimsum_testing::outage::{Fault, RequestKind};

use crate::node::{FILES, Node, SourceImage, TAG, content, read};

/// What the node has of the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Here {
    /// Everything.
    Complete,
    /// Its documents and one of two files.
    Half,
    /// Nothing.
    Nothing,
}

/// Requests that fail together.
struct Outage {
    kinds: &'static [RequestKind],
    /// Which requests these are, for people.
    name: &'static str,
    /// Whether the image is named by its digest.
    is_pinned: bool,
    /// Whether the registry wants tokens.
    wants_tokens: bool,
}

const fn outage(kinds: &'static [RequestKind], name: &'static str) -> Outage {
    Outage { kinds, name, is_pinned: false, wants_tokens: false }
}

const OUTAGES: [Outage; 8] = [
    outage(&[ManifestByTag], "the manifest of the tag"),
    Outage { is_pinned: true, ..outage(&[ManifestByDigest], "the manifest by its digest, which names the image,") },
    outage(&[Config], "the config"),
    outage(&[Meta], "the meta"),
    outage(&[Pack], "the data"),
    outage(&[ManifestByTag, Config, Meta, Pack], "the manifest of the tag and all blobs"),
    Outage {
        is_pinned: true,
        ..outage(
            &[ManifestByDigest, Config, Meta, Pack],
            "the manifest by its digest, which names the image, and all blobs",
        )
    },
    Outage { wants_tokens: true, ..outage(&[Token, Config, Meta, Pack], "a token and all blobs") },
];

const FAULTS: [(Fault, &str); 10] = [
    (Fault::Status(401), "401"),
    (Fault::Status(403), "403"),
    (Fault::Status(404), "404"),
    (Fault::Status(429), "429"),
    (Fault::Status(500), "500"),
    (Fault::Status(503), "503"),
    (Fault::Reset, "reset"),
    (Fault::Hang, "hang"),
    (Fault::WrongBytes, "wrong bytes"),
    (Fault::Truncated, "cut off"),
];

const STATES: [(Here, &str); 3] = [
    (Here::Complete, "The node has all of the image"),
    (Here::Half, "The node has the documents of the image and a part of its data"),
    (Here::Nothing, "The node has nothing of the image"),
];

#[test]
fn the_table_of_outages_in_the_documentation_is_what_happens() {
    let image = SourceImage::new();
    // One thread for each row: what hangs waits for its deadline.
    let rows: Vec<Vec<String>> = std::thread::scope(|scope| {
        let cases = STATES.iter().flat_map(|(here, _)| OUTAGES.iter().map(move |outage| (*here, outage)));
        let threads: Vec<_> = cases
            .map(|(here, outage)| {
                scope.spawn({
                    let image = &image;
                    move || row(image, here, outage)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let text = document(&rows);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/outages.md");
    if std::env::var_os("DIMSUM_BLESS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/outages.md is not what happens; DIMSUM_BLESS=1 writes it:\n{text}");
}

fn row(image: &Arc<SourceImage>, here: Here, outage: &Outage) -> Vec<String> {
    FAULTS.iter().map(|(fault, _)| cell(image, here, outage, *fault)).collect()
}

/// Opens the image while some requests fail, and reads two files.
fn cell(image: &Arc<SourceImage>, here: Here, outage: &Outage, fault: Fault) -> String {
    let (node, case) = (Node::with(image), format!("{here:?} {:?} {fault:?}", outage.kinds));
    if outage.wants_tokens {
        node.registry.want_tokens();
    }
    let name = if outage.is_pinned { node.registry.pinned(node.digest) } else { node.registry.reference(TAG) };
    match here {
        Here::Complete => node.warm(&name, &FILES),
        Here::Half => node.warm(&name, &FILES[..1]),
        Here::Nothing => {}
    }
    node.fail(outage.kinds, fault);
    let (engine, notes) = node.engine();
    let opened = match open(&engine, &name) {
        Ok(opened) => opened,
        Err(error) => {
            assert_eq!(here, Here::Nothing, "{case}: {error}");
            return refused("refused", &error);
        }
    };
    let told = if notes.0.lock().unwrap().is_empty() { "" } else { ", with a note" };
    let mut outcomes = FILES.map(|file| {
        let bytes = read(&opened, file);
        // Never other bytes, whatever the registry gives.
        bytes.map(|bytes| assert!(bytes == content(file), "{case}: wrong bytes of {file}"))
    });
    if here != Here::Nothing {
        assert!(outcomes[0].is_ok(), "{case}: what is here must work");
    }
    let Some(failed) = outcomes.iter_mut().find_map(|outcome| outcome.as_ref().err()) else {
        return format!("works{told}");
    };
    let text = refused(if here == Here::Nothing { "opens; reads fail" } else { "works; the rest fails" }, failed);
    // At once: the read that failed has asked for more chunks than one, and their requests may still be failing.
    node.registry.heal();
    for file in FILES {
        let bytes = read(&opened, file).unwrap_or_else(|error| panic!("{case}: it heals by itself: {error}"));
        assert!(bytes == content(file), "{case}: it heals by itself");
    }
    format!("{text}{told}")
}

fn refused(what: &str, error: &EngineError) -> String {
    assert_ne!(error.kind(), ErrorKind::Internal, "{error:?}");
    format!("{what}: {}", error.kind())
}

fn document(rows: &[Vec<String>]) -> String {
    let mut text = HEAD.to_owned();
    for ((_, state), rows) in STATES.iter().zip(rows.chunks(OUTAGES.len())) {
        let _infallible = write!(text, "\n## {state}\n");
        for (outage, cells) in OUTAGES.iter().zip(rows) {
            let _infallible =
                write!(text, "\nRequests for {} fail:\n\n| failure | outcome |\n|---|---|\n", outage.name);
            // Failures with the same outcome share a line.
            let mut lines: Vec<(String, &String)> = Vec::new();
            for ((_, fault), cell) in FAULTS.iter().zip(cells) {
                match lines.iter_mut().find(|(_, outcome)| *outcome == cell) {
                    Some((faults, _)) => *faults = format!("{faults}, {fault}"),
                    None => lines.push(((*fault).to_owned(), cell)),
                }
            }
            for (faults, outcome) in lines {
                let _infallible = writeln!(text, "| {faults} | {outcome} |");
            }
        }
    }
    text
}

const HEAD: &str = "\
# Partial outages

A registry can fail for one kind of request and answer all others.
These tables say what happens then.
A test makes every failure and compares the outcome with this file:
`cargo test --workspace --test outage`; with `DIMSUM_BLESS=1` it writes the file anew.

Unless a table says otherwise, the image is named by a tag.
With a digest, documents in the store are not asked for again.

The failures are a status, a connection that breaks (*reset*), no answer (*hang*), *wrong bytes*,
and an answer of which a half comes (*cut off*).

* *works*: the image opens, and every file has the right bytes.
* *with a note*: the node uses the image that it has, and tells the user why.
* *works; the rest fails*: files that are here have the right bytes.
  Others fail with this kind of error.
  They can be read again as soon as the registry answers, without a new mount.
* *opens; reads fail*: the image opens.
  Files fail with this kind of error until the registry answers.
* *refused*: the image does not open; the error has this kind.

No outcome is ever a wrong byte.

An image that is here and is named by a tag waits for a registry that hangs, at most 10 s.
This time is `known_deadline` of `EngineConfig`; the test makes it shorter.
Then the image opens from the store.
An image that is named by its digest opens at once.
A read of data that is not here fails after 30 s.
";
