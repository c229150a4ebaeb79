//! Checking every file of the store: `check --store`.
//!
//! The walk trusts names only to know what a file must be, and proves its content from there. It proves packs by their
//! SHA-256, images from their manifest's digest, and records under the node key. Devices, and frames of packs that came
//! piece by piece, are proven by the maps of the images that have them. It repairs nothing: reads do that. Chunks that
//! a running server fills at the same time are looked at twice before they count as damaged.

mod devices;
mod finding;
mod images;
mod parts;
mod walk;

pub use finding::{Cause, CheckProgress, Finding, Object, Report, Severity};

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use dimsum_format::manifest::Blob;
use dimsum_format::meta::MetaMaps;
use dimsum_format::{Blake3, DeviceId, Digest};

use crate::disk::layout::{self, PACKS, RECORDS};
use crate::limits::{MAX_FINDINGS, MAX_RECORD};
use crate::records::{self, NodeKey};
use crate::services::Services;
use crate::store::Store;
use walk::{Named, fanned};

impl Store {
    /// Reads and proves every file of the store, blocking. `key` is needed to check conversion records.
    pub fn check(&self, key: Option<&NodeKey>, progress: &mut dyn FnMut(CheckProgress)) -> Report {
        let (report, devices, parts) = (Report::default(), HashMap::new(), HashMap::new());
        let mut checker = Checker { services: self.services(), report, progress, devices, parts };
        let parts = checker.packs();
        checker.images();
        checker.devices();
        checker.parts(parts);
        checker.records(key);
        checker.report
    }
}

/// A check under way.
struct Checker<'a> {
    services: &'a Services,
    report: Report,
    progress: &'a mut dyn FnMut(CheckProgress),
    /// Devices that a proven meta names: all that is known of what a device must be.
    devices: HashMap<DeviceId, (Arc<MetaMaps>, usize)>,
    /// What the sparse files beside packs must be, by their names.
    parts: HashMap<String, (Blob, Arc<MetaMaps>, usize)>,
}

impl Checker<'_> {
    /// Checks whole packs; returns the sparse files, which images tell about.
    fn packs(&mut self) -> Vec<Named> {
        let (packs, parts): (Vec<_>, Vec<_>) = fanned(&self.services.layout().directory(PACKS), walk::is_pack, self)
            .into_iter()
            .partition(|entry| entry.name.len() == walk::DIGEST);
        for Named { path, name } in packs {
            let Ok(must) = Digest::from_hex(&name) else { continue };
            self.file();
            match self.sha256(&path) {
                Ok(is) if is == must => {}
                Ok(is) => self.damage(Object::Pack, &path, 0, Cause::Digest { is, must }),
                Err(kind) => self.damage(Object::Pack, &path, 0, Cause::Unreadable { kind }),
            }
        }
        parts
    }

    fn records(&mut self, key: Option<&NodeKey>) {
        for entry in fanned(&self.services.layout().directory(RECORDS), walk::is_digest, self) {
            let Named { path, name } = entry;
            let Ok(name) = Blake3::from_hex(&name) else { continue };
            self.file();
            let Some(key) = key else {
                self.note(Object::Record, &path, Cause::NoKey);
                continue;
            };
            match layout::read_small(&path, MAX_RECORD) {
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    self.bytes(bytes.len() as u64);
                    if !records::is_record(name, &bytes, key) {
                        self.damage(Object::Record, &path, 0, Cause::Authenticator);
                    }
                }
                Err(error) => self.damage(Object::Record, &path, 0, Cause::Unreadable { kind: error.kind() }),
            }
        }
    }

    /// Hashes a whole file.
    fn sha256(&mut self, path: &Path) -> Result<Digest, std::io::ErrorKind> {
        let file = layout::open_regular(path, false).map_err(|error| error.kind())?;
        let file = file.ok_or(std::io::ErrorKind::NotFound)?;
        layout::sha256(&file, |count| self.bytes(count)).map_err(|error| error.kind())
    }

    fn file(&mut self) {
        self.report.files += 1;
        self.bytes(0);
    }

    fn bytes(&mut self, count: u64) {
        self.report.bytes = self.report.bytes.saturating_add(count);
        (self.progress)(CheckProgress { files: self.report.files, bytes: self.report.bytes });
    }

    fn damage(&mut self, object: Object, path: &Path, offset: u64, cause: Cause) {
        self.add(Finding { severity: Severity::Damage, object, path: path.to_owned(), offset, cause });
    }

    fn note(&mut self, object: Object, path: &Path, cause: Cause) {
        self.add(Finding { severity: Severity::Note, object, path: path.to_owned(), offset: 0, cause });
    }

    fn add(&mut self, finding: Finding) {
        self.report.damaged |= finding.severity == Severity::Damage;
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(finding);
        } else {
            self.report.more += 1;
        }
    }
}
