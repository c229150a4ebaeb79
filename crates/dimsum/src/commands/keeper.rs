//! `dimsum keeper`.

use std::os::fd::RawFd;

use clap::Args;
use dimsum_node::keeper::{Config, run};
use dimsum_node::server::DEFAULT_IDLE;
use dimsum_node::trace::LogLevel;

use crate::context::Context;
use crate::error::Error;
use crate::log::for_keeper;
use crate::node::program;

/// Hold this node's mounts and start the server (commands start it when they need it)
#[derive(Debug, Args)]
pub struct Keeper {
    /// A pipe on which a client waits for the server
    #[arg(long, hide = true)]
    ready_fd: Option<RawFd>,
}

impl Keeper {
    /// Runs until nothing is mounted and nobody asks.
    ///
    /// # Errors
    /// If the store cannot be used, or the server cannot be started.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let idle = DEFAULT_IDLE.as_secs().to_string();
        let server = program(context, "serve", &["--idle", &idle]);
        let config = Config {
            store: context.engine.config().store.clone(),
            server,
            ready: self.ready_fd,
            foreground: false,
            log: context.log.settings(LogLevel::Info),
            trace: for_keeper,
        };
        let failed = |source: dimsum_node::Error| Error::Node {
            object: context.engine.config().store.display().to_string(),
            source: Box::new(source),
        };
        run(config).map_err(|source| failed(source.into()))
    }
}
