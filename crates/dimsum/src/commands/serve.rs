//! `dimsum serve`.

use std::time::Duration;

use clap::Args;
use dimsum_engine::EngineConfig;
use dimsum_engine::{Joining, StoreOptions};
use dimsum_node::keeper::{Config as KeeperConfig, run as run_keeper};
use dimsum_node::server;
use dimsum_node::trace::LogLevel;

use crate::context::Context;
use crate::error::Error;
use crate::log::{for_keeper, for_server};
use crate::node::program;
use dimsum_engine::image::make_store_directory;

/// Serve this node's store in the foreground
///
/// Commands start a server by themselves where none runs, and it ends when nothing is mounted. This is the same server,
/// for service managers and for observation. A keeper holds its mounts and starts it again if it dies.
#[derive(Debug, Args)]
pub struct Serve {
    /// End after so many seconds without a mount or a request [default: never]
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    /// Fetch no bytes between wanted chunks to save round trips; for measurements
    #[arg(long)]
    no_joining: bool,
    /// Fetch compressed metas of up to so many bytes with one request, larger ones piece by piece; for measurements
    #[arg(long, value_name = "BYTES", hide = true)]
    whole_meta: Option<u64>,
    /// Descriptors from the keeper that started this process
    #[arg(long, hide = true)]
    inherited: Option<String>,
}

impl Serve {
    /// Serves until nobody needs it.
    ///
    /// # Errors
    /// If the store cannot be used or is served by another process.
    pub fn run(self, context: &Context) -> Result<(), Error> {
        let failed = |source| Error::Node {
            object: context.engine.config().store.display().to_string(),
            source: Box::new(source),
        };
        match self.inherited.clone() {
            Some(inherited) => server::run(server::Config {
                engine: self.engine_config(context),
                inherited,
                idle: self.idle.map(Duration::from_secs),
                log: context.log.settings(LogLevel::Info),
                trace: for_server,
                fill_pause: server::FIRST_PAUSE,
            })
            .map_err(failed),
            None => {
                make_store_directory(&context.engine)?;
                let idle = self.idle.map(|seconds| seconds.to_string());
                let mut arguments: Vec<&str> = idle.iter().flat_map(|seconds| ["--idle", seconds]).collect();
                if self.no_joining {
                    arguments.push("--no-joining");
                }
                let whole_meta = self.whole_meta.map(|bytes| bytes.to_string());
                arguments.extend(whole_meta.iter().flat_map(|bytes| ["--whole-meta", bytes]));
                let server = program(context, "serve", &arguments);
                let config = KeeperConfig {
                    store: context.engine.config().store.clone(),
                    server,
                    ready: None,
                    foreground: true,
                    log: context.log.settings(LogLevel::Info),
                    trace: for_keeper,
                };
                run_keeper(config).map_err(|source| failed(source.into()))
            }
        }
    }

    fn engine_config(&self, context: &Context) -> EngineConfig {
        let mut config = context.engine.config().clone();
        config.store_options = StoreOptions {
            joining: if self.no_joining { Joining::Off } else { Joining::default() },
            whole_meta: self.whole_meta.unwrap_or_else(|| StoreOptions::default().whole_meta),
            ..StoreOptions::default()
        };
        config
    }
}
