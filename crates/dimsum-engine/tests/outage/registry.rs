//! A registry that serves an OCI layout, read only, and fails as a script says.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use dimsum_format::Digest;
use serde_json::Value;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Asked {
    /// A manifest by its tag.
    Tag,
    /// A manifest by its digest.
    Manifest,
    /// The config of an image.
    Config,
    /// The meta of an image.
    Meta,
    /// A pack of an image, or a layer of an ordinary one.
    Pack,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An answer with this status and no body.
    Status(u16),
    /// The connection breaks before there is an answer.
    Reset,
    /// There is no answer, as long as the client waits.
    Hang,
    /// An answer with bytes that are not those.
    Wrong,
}

/// The registry; it ends with the test's process.
pub(crate) struct Registry {
    address: String,
    script: Arc<Script>,
}

struct Script {
    layout: PathBuf,
    /// Digests of configs and metas; other blobs are packs.
    roles: HashMap<Digest, Asked>,
    faults: Mutex<Vec<(Asked, Fault)>>,
    asked: Mutex<Vec<Asked>>,
}

impl Registry {
    /// Serves a layout on a loopback port.
    pub(crate) fn serve(layout: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let script = Arc::new(Script {
            layout: layout.to_owned(),
            roles: roles(layout),
            faults: Mutex::default(),
            asked: Mutex::default(),
        });
        let serving = Arc::clone(&script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let script = Arc::clone(&serving);
                std::thread::spawn(move || drop(script.answer_all(stream.unwrap())));
            }
        });
        Self { address, script }
    }

    /// Returns the name of the image that a tag of the layout names.
    pub(crate) fn image(&self, tag: &str) -> String {
        format!("{}/app:{tag}", self.address)
    }

    /// Returns the name of an image by its digest.
    pub(crate) fn pinned(&self, digest: Digest) -> String {
        format!("{}/app@{digest}", self.address)
    }

    /// From now on these requests fail so, and all others are answered.
    pub(crate) fn fail(&self, faults: &[(Asked, Fault)]) {
        *self.script.faults.lock().unwrap() = faults.to_vec();
    }

    /// Returns what was asked for since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.script.asked.lock().unwrap())
    }
}

/// Finds configs and metas in the manifests of a layout.
fn roles(layout: &Path) -> HashMap<Digest, Asked> {
    let mut roles = HashMap::new();
    for entry in fs::read_dir(layout.join("blobs/sha256")).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        let Ok(document) = serde_json::from_slice::<Value>(&bytes) else { continue };
        let digest = |value: &Value| value["digest"].as_str().and_then(|text| text.parse::<Digest>().ok());
        if let Some(config) = digest(&document["config"]) {
            roles.insert(config, Asked::Config);
        }
        for layer in document["layers"].as_array().into_iter().flatten() {
            if layer["mediaType"].as_str().is_some_and(|kind| kind.contains("meta")) {
                roles.insert(digest(layer).unwrap(), Asked::Meta);
            }
        }
    }
    roles
}

impl Script {
    fn answer_all(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let Some((head, path, range)) = read_request(&mut reader)? else { return Ok(()) };
            if !self.answer(&stream, &head, &path, range)? {
                return stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// Answers one request; says whether the connection goes on.
    fn answer(&self, stream: &TcpStream, head: &str, path: &str, range: Option<Range<usize>>) -> std::io::Result<bool> {
        let Some((asked, digest)) = self.find(path) else {
            let status = if path == "/v2/" { 200 } else { 404 };
            return respond(stream, head, status, "application/json", None, b"{}").map(|()| true);
        };
        self.asked.lock().unwrap().push(asked);
        let faults = self.faults.lock().unwrap().clone();
        let mut body = fs::read(self.layout.join("blobs/sha256").join(digest.hex()))?;
        match faults.iter().find(|(kind, _)| *kind == asked).map(|(_, fault)| *fault) {
            Some(Fault::Reset) => return Ok(false),
            Some(Fault::Hang) => {
                // Until the client goes away.
                let _ended = stream.try_clone()?.read(&mut [0]);
                return Ok(false);
            }
            Some(Fault::Status(status)) => {
                return respond(stream, head, status, "application/json", None, b"{}").map(|()| true);
            }
            Some(Fault::Wrong) => body.iter_mut().for_each(|byte| *byte ^= 1),
            None => {}
        }
        let kind = serde_json::from_slice::<Value>(&body).ok();
        let kind =
            kind.as_ref().and_then(|document| document["mediaType"].as_str()).unwrap_or("application/octet-stream");
        respond(stream, head, 200, kind, range, &body).map(|()| true)
    }

    fn find(&self, path: &str) -> Option<(Asked, Digest)> {
        if let Some(digest) = path.strip_prefix("/v2/app/blobs/") {
            let digest = digest.parse().ok()?;
            return Some((self.roles.get(&digest).copied().unwrap_or(Asked::Pack), digest));
        }
        let name = path.strip_prefix("/v2/app/manifests/")?;
        if let Ok(digest) = name.parse() {
            return Some((Asked::Manifest, digest));
        }
        let index: Value = serde_json::from_slice(&fs::read(self.layout.join("index.json")).ok()?).ok()?;
        let named = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == *name;
        let entry = index["manifests"].as_array()?.iter().find(named)?;
        Some((Asked::Tag, entry["digest"].as_str()?.parse().ok()?))
    }
}

/// Method, path and range of a request.
type RequestHead = (String, String, Option<Range<usize>>);

/// Reads method, path and range of a request; nothing at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<RequestHead>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let (method, path) = (method.to_owned(), path.to_owned());
    let mut range = None;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            return Ok(Some((method, path, range)));
        }
        if let Some((first, last)) = line.strip_prefix("range: bytes=").and_then(|range| range.split_once('-')) {
            range = Some(first.parse().unwrap()..last.parse().map_or(usize::MAX, |last: usize| last + 1));
        }
    }
}

fn respond(
    mut stream: &TcpStream,
    method: &str,
    status: u16,
    kind: &str,
    range: Option<Range<usize>>,
    body: &[u8],
) -> std::io::Result<()> {
    let whole = body.len();
    let (status, part, header) = match range {
        Some(range) if status == 200 => {
            let range = range.start.min(whole)..range.end.min(whole);
            let header = format!("Content-Range: bytes {}-{}/{whole}\r\n", range.start, range.end.saturating_sub(1));
            (206, &body[range], header)
        }
        _ => (status, body, String::new()),
    };
    let head = format!("HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{header}\r\n", part.len());
    stream.write_all(head.as_bytes())?;
    if method != "HEAD" {
        stream.write_all(part)?;
    }
    stream.flush()
}
