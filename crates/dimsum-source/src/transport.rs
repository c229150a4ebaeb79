//! The table of schemes: how a text becomes a reference, and a reference something to read from or write to.
//!
//! ```text
//!   text ── Schemes::parse ──→ Reference ── Transports::open ───→ Place
//!            by scheme name        └─────── Transports::create ─→ Target
//! ```
//!
//! A new transport is one registration: an implementation of [`Transport`] that is put into the table where the table is
//! built. No caller matches on schemes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use crate::error::{SourceError, SourceFault};
use crate::place::Place;
use crate::reference::Reference;
use crate::target::Target;

/// Schemes of other tools, which users try here. Without this list `docker-daemon:app` would be the image of a registry.
const FOREIGN: [&str; 6] = ["docker-daemon", "containers-storage", "ostree", "sif", "tarball", "docker-image"];

/// A scheme: its name and its grammar. It opens nothing, so that texts can be parsed where nothing is connected.
#[derive(Debug, Clone, Copy)]
pub struct Scheme {
    /// What stands before the first colon: lower-case letters, digits and `-`.
    pub name: &'static str,
    /// How a reference of this scheme looks, for messages: `oci:DIR[:TAG]`.
    pub usage: &'static str,
    /// Parses what stands behind the first colon. The error says what is wrong with it.
    pub parse: fn(&str) -> Result<Reference, Cow<'static, str>>,
}

/// Schemes by name. A text without a scheme belongs to the default one.
#[derive(Debug, Clone, Default)]
pub struct Schemes {
    table: BTreeMap<&'static str, Scheme>,
    default: Option<Scheme>,
    /// Names in the order in which they were added, for messages.
    order: Vec<&'static str>,
}

impl Schemes {
    /// Adds a scheme, in the place of the one that has its name.
    pub fn add(&mut self, scheme: Scheme) {
        if self.table.insert(scheme.name, scheme).is_none() {
            self.order.push(scheme.name);
        }
    }

    /// Adds a scheme to which texts without a known scheme belong: its parser gets them as `//TEXT`.
    pub fn add_default(&mut self, scheme: Scheme) {
        self.add(scheme);
        self.default = Some(scheme);
    }

    /// Returns how references look, one text for each scheme, in the order in which they were added.
    pub fn usages(&self) -> impl Iterator<Item = &'static str> {
        self.order.iter().filter_map(|name| self.table.get(name)).map(|scheme| scheme.usage)
    }

    /// Parses a reference.
    ///
    /// The scheme ends at the first colon. Text without a known scheme belongs to the default one, unless it has the form of
    /// another scheme (`ftp://x`, `docker-daemon:x`) or of a path.
    ///
    /// # Errors
    /// If the scheme is not known, or its parser refuses the rest.
    pub fn parse(&self, text: &str) -> Result<Reference, SourceError> {
        let refuse = |reason: Cow<'static, str>| SourceFault::Reference { reason }.at(format!("{text:?}"));
        let (name, rest) = text.split_once(':').unwrap_or_default();
        if let Some(scheme) = self.table.get(name) {
            return (scheme.parse)(rest).map_err(refuse);
        }
        if rest.starts_with("//") || FOREIGN.contains(&name) {
            return Err(refuse(format!("the scheme {name}: is not known; {}", self.list()).into()));
        }
        match self.default {
            Some(_) if text.starts_with(['/', '.']) => {
                Err(refuse(format!("the text looks like a path and has no scheme; {}", self.list()).into()))
            }
            Some(default) => (default.parse)(&format!("//{text}")).map_err(refuse),
            None => Err(refuse(format!("the text has no known scheme; {}", self.list()).into())),
        }
    }

    fn list(&self) -> String {
        let usages: Vec<_> = self.usages().collect();
        if usages.is_empty() { "there is none".to_owned() } else { format!("there is {}", usages.join(", ")) }
    }
}

/// What opens the references of one scheme.
pub trait Transport: Debug + Send + Sync {
    /// Returns the scheme.
    fn scheme(&self) -> Scheme;

    /// Opens a reference of this scheme for reading, blocking. A transport that holds no images refuses.
    ///
    /// # Errors
    /// If there is nothing of the kind.
    fn open(&self, reference: &Reference) -> Result<Arc<dyn Place>, SourceError> {
        Err(no_images(reference))
    }

    /// Opens a reference of this scheme for writing, blocking; what can be made is made. A transport that cannot be written
    /// to refuses.
    ///
    /// # Errors
    /// If it cannot be written, or is named by a digest.
    fn create(&self, reference: &Reference) -> Result<Box<dyn Target>, SourceError> {
        Err(no_images(reference))
    }
}

/// All transports of a process, by scheme. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Transports {
    schemes: Schemes,
    table: BTreeMap<&'static str, Arc<dyn Transport>>,
}

impl Transports {
    /// Registers a transport, in the place of the one that has its scheme.
    pub fn register(&mut self, transport: Arc<dyn Transport>) {
        let scheme = transport.scheme();
        self.schemes.add(scheme);
        self.table.insert(scheme.name, transport);
    }

    /// Registers a transport to which texts without a known scheme belong.
    pub fn register_default(&mut self, transport: Arc<dyn Transport>) {
        self.schemes.add_default(transport.scheme());
        self.register(transport);
    }

    /// Returns the schemes.
    #[must_use]
    pub const fn schemes(&self) -> &Schemes {
        &self.schemes
    }

    /// Parses a reference.
    ///
    /// # Errors
    /// As [`Schemes::parse`].
    pub fn parse(&self, text: &str) -> Result<Reference, SourceError> {
        self.schemes.parse(text)
    }

    /// Opens a reference for reading, blocking.
    ///
    /// # Errors
    /// As [`Transport::open`]; also if no transport has its scheme.
    pub fn open(&self, reference: &Reference) -> Result<Arc<dyn Place>, SourceError> {
        self.transport(reference)?.open(reference)
    }

    /// Opens a reference for writing, blocking; what can be made is made.
    ///
    /// # Errors
    /// As [`Transport::create`]; also if no transport has its scheme.
    pub fn create(&self, reference: &Reference) -> Result<Box<dyn Target>, SourceError> {
        self.transport(reference)?.create(reference)
    }

    fn transport(&self, reference: &Reference) -> Result<&Arc<dyn Transport>, SourceError> {
        self.table.get(reference.scheme()).ok_or_else(|| {
            SourceFault::Reference {
                reason: format!("no transport is registered for the scheme {}:", reference.scheme()).into(),
            }
            .at(reference.to_string())
        })
    }
}

fn no_images(reference: &Reference) -> SourceError {
    SourceFault::Name { reason: "references of this scheme name no images".to_owned() }.at(reference.to_string())
}
