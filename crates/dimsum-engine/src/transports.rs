//! The ways to places: one table of transports for each set of access settings, all on one runtime.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, OnceLock};

use dimsum_registry::{Access, Network, REGISTRY, Timing};
use dimsum_source::{Runtime, Schemes, Transport, Transports};
use parking_lot::Mutex;

/// Access settings that are kept with their connections and tokens. A server sees one set per user; beyond this
/// number all are forgotten, and the next users connect again.
const MAX_TABLES: usize = 16;

/// Returns the transports that are built in: registries, which names without a scheme belong to, OCI layouts, archives and
/// file trees.
#[must_use]
pub fn built_in_transports(access: Access, runtime: &Runtime) -> Transports {
    with_timing(access, Timing::default(), runtime)
}

fn with_timing(access: Access, timing: Timing, runtime: &Runtime) -> Transports {
    let mut transports = Transports::default();
    transports.register_default(Arc::new(Network::with_timing(access, runtime, timing)));
    dimsum_layout::register(&mut transports);
    transports
}

/// Returns the schemes of [`built_in_transports`] and of more transports. Nothing is started: texts can be parsed early.
pub(crate) fn schemes(more: &[Arc<dyn Transport>]) -> Schemes {
    let mut schemes = Schemes::default();
    schemes.add_default(REGISTRY);
    dimsum_layout::add_schemes(&mut schemes);
    more.iter().for_each(|transport| schemes.add(transport.scheme()));
    schemes
}

/// Tables by their settings. The runtime starts with the first: a thread that is made earlier would not have the
/// signal mask that the process wants.
#[derive(Debug)]
pub(crate) struct TransportTables {
    runtime: OnceLock<Runtime>,
    open: Mutex<HashMap<Access, Transports>>,
    timing: Timing,
}

impl TransportTables {
    /// Returns an empty set of tables.
    pub(crate) fn new(timing: Timing) -> Self {
        Self { runtime: OnceLock::new(), open: Mutex::default(), timing }
    }

    /// Returns the runtime, started at the first call.
    pub(crate) fn runtime(&self) -> io::Result<&Runtime> {
        if let Some(runtime) = self.runtime.get() {
            return Ok(runtime);
        }
        let runtime = Runtime::start()?;
        Ok(self.runtime.get_or_init(|| runtime))
    }

    /// Returns the built-in transports with these settings, and more.
    pub(crate) fn table(&self, access: &Access, more: &[Arc<dyn Transport>]) -> io::Result<Transports> {
        let mut table = self.built_in(access)?;
        more.iter().for_each(|transport| table.register(Arc::clone(transport)));
        Ok(table)
    }

    fn built_in(&self, access: &Access) -> io::Result<Transports> {
        let runtime = self.runtime()?;
        let mut open = self.open.lock();
        if let Some(table) = open.get(access) {
            return Ok(table.clone());
        }
        if open.len() >= MAX_TABLES {
            open.clear();
        }
        let table = with_timing(access.clone(), self.timing, runtime);
        open.insert(access.clone(), table.clone());
        Ok(table)
    }
}
