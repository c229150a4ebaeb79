//! Where blobs come from, as a client writes it and as the server opens it.

use std::collections::HashMap;
use std::sync::Arc;

pub use dimsum_engine::ImageOrigin as Origin;
use dimsum_engine::built_in_transports;
use dimsum_registry::Access;
use dimsum_source::{Runtime, Source, SourceError, Transports};
use parking_lot::Mutex;

/// Settings of network access that are kept with their connections and tokens; beyond that the oldest users make new ones.
const MAX_NETWORKS: usize = 16;

/// The networks of a server: one for each way to reach registries, all on one runtime.
#[derive(Debug)]
pub struct Networks {
    runtime: Runtime,
    open: Mutex<HashMap<Access, Transports>>,
}

/// Opens an origin.
pub type OriginOpener = fn(&Networks, &Origin) -> Result<Arc<dyn Source>, SourceError>;

impl Networks {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { runtime, open: Mutex::default() }
    }

    fn transports(&self, access: &Access) -> Transports {
        let mut open = self.open.lock();
        if let Some(transports) = open.get(access) {
            return transports.clone();
        }
        if open.len() >= MAX_NETWORKS {
            open.clear();
        }
        let transports = built_in_transports(access.clone(), &self.runtime);
        open.insert(access.clone(), transports.clone());
        transports
    }
}

/// Opens a registry's repository, a layout or an archive; which image of it is meant does not matter here.
///
/// # Errors
/// If there is none, or the reference is of another kind.
pub fn open_origin(networks: &Networks, origin: &Origin) -> Result<Arc<dyn Source>, SourceError> {
    let transports = networks.transports(&origin.access);
    let place = transports.open(&transports.parse(&origin.reference)?)?;
    Ok(place)
}

/// Opens what can be opened; the rest is returned as reasons. A place that moved away is no error as long as nothing is
/// needed from it.
pub(crate) fn open_all(
    open: OriginOpener,
    networks: &Networks,
    origins: &[Origin],
) -> (Vec<Arc<dyn Source>>, Vec<String>) {
    let mut sources = Vec::new();
    let mut skipped = Vec::new();
    for origin in origins {
        match open(networks, origin) {
            Ok(source) => sources.push(source),
            Err(error) => skipped.push(error.to_string()),
        }
    }
    (sources, skipped)
}
