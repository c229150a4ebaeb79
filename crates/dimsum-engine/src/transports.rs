//! The ways to places: one network for each set of access settings, all on one runtime.

use std::collections::HashMap;
use std::io;
use std::sync::OnceLock;

use dimsum_registry::{Access, Network};
use dimsum_source::Runtime;
use parking_lot::Mutex;

/// Access settings that are kept with their connections and tokens. A server sees one set per user; beyond this
/// number all are forgotten, and the next users connect again.
const MAX_NETWORKS: usize = 16;

/// Networks by their settings. The runtime starts with the first: a thread that is made earlier would not have the
/// signal mask that the process wants.
#[derive(Debug, Default)]
pub(crate) struct Transports {
    runtime: OnceLock<Runtime>,
    open: Mutex<HashMap<Access, Network>>,
}

impl Transports {
    /// Returns the runtime, started at the first call.
    pub(crate) fn runtime(&self) -> io::Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = Runtime::start()?;
        Ok(self.runtime.get_or_init(|| runtime))
    }

    /// Returns the network of these settings.
    pub(crate) fn network(&self, access: &Access) -> io::Result<Network> {
        let runtime = self.runtime()?;
        let mut open = self.open.lock();
        if let Some(network) = open.get(access) {
            return Ok(network.clone());
        }
        if open.len() >= MAX_NETWORKS {
            open.clear();
        }
        let network = Network::new(access.clone(), runtime);
        open.insert(access.clone(), network.clone());
        Ok(network)
    }
}
