//! What every command gets: the places of this node, and how to speak. The only code that reads the environment.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use dimsum_engine::Access;
use dimsum_engine::{CancelReason, CancelToken, Engine, EngineConfig};

use crate::error::Error;
use crate::log::LogWish;
use crate::options::Common;
use crate::output::Output;
use crate::progress::{Narrator, Progress};
use crate::signals::Interrupts;

/// The surroundings of a command.
#[derive(Debug, Clone)]
pub struct Context {
    /// The way from references to images.
    pub engine: Engine,
    /// Where results go.
    pub output: Output,
    /// How progress is shown.
    pub progress: Progress,
    /// Which records are written, and how.
    pub log: LogWish,
    /// The signals of this process, where the command takes them over.
    pub interrupts: Option<Interrupts>,
}

impl Context {
    /// Fills in what the common options leave open.
    ///
    /// # Errors
    /// If neither options nor environment say where the store is.
    pub fn new(common: &Common) -> Result<Self, Error> {
        let root = rustix::process::geteuid().is_root();
        let store = match common.store.clone().or_else(|| set("DIMSUM_STORE")) {
            Some(store) => store,
            None if root => PathBuf::from("/var/lib/dimsum"),
            None => home("XDG_DATA_HOME", ".local/share")?.join("dimsum"),
        };
        let node_key = match common.node_key.clone().or_else(|| set("DIMSUM_NODE_KEY")) {
            Some(key) => key,
            None if root => PathBuf::from("/etc/dimsum/node.key"),
            None => home("XDG_CONFIG_HOME", ".config")?.join("dimsum/node.key"),
        };
        // The server outlives us and has another working directory.
        let store = std::path::absolute(&store).map_err(|source| Error::io("find", &store, source))?;
        let node_key = std::path::absolute(&node_key).map_err(|source| Error::io("find", &node_key, source))?;
        let output = Output::new(common.format);
        let mut config = EngineConfig::new(store, node_key);
        config.temp_dir = temp_dir();
        config.access = access(common)?;
        config.platforms.clone_from(&common.platform);
        config.require_digest = common.require_digest;
        let progress = Progress::new(common.format);
        let narrator = Narrator { progress, verbose: common.verbose };
        let engine = Engine::new(config).with_progress(Arc::new(narrator));
        Ok(Self { engine, output, progress, log: LogWish::new(common)?, interrupts: None })
    }

    /// Returns the surroundings with the signals of this process taken over. Call it before the first thread is started.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn with_interrupts(&self) -> Result<(Self, Interrupts), Error> {
        let interrupts = Interrupts::take_over()?;
        let watched = interrupts.clone();
        let watch = move || watched.ending().map(|signal| CancelReason::Signal(signal.as_raw()));
        let engine = self.engine.with_cancel(CancelToken::watching(watch));
        Ok((Self { engine, interrupts: Some(interrupts.clone()), ..self.clone() }, interrupts))
    }
}

/// Not /tmp, which is in memory on many machines: a layer's files pass through.
fn temp_dir() -> PathBuf {
    env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// Where registries' certificates are, unless told otherwise: podman's place and docker's.
const CERT_DIRS: [&str; 2] = ["/etc/containers/certs.d", "/etc/docker/certs.d"];

/// Finds credentials and certificates where podman, skopeo and docker keep them.
fn access(common: &Common) -> Result<Access, Error> {
    let absolute = |path: &PathBuf| std::path::absolute(path).map_err(|source| Error::io("find", path, source));
    let all = |paths: &[PathBuf]| paths.iter().map(absolute).collect::<Result<Vec<_>, _>>();
    let auth_files = match common.authfile.clone().or_else(|| set("REGISTRY_AUTH_FILE")) {
        Some(file) => {
            // One that was named must be there: going on without credentials would hide the mistake.
            std::fs::metadata(&file).map_err(|source| Error::io("read the credentials in", &file, source))?;
            vec![absolute(&file)?]
        }
        None => {
            let places = [
                set("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json")),
                home("XDG_CONFIG_HOME", ".config").ok().map(|dir| dir.join("containers/auth.json")),
                set("DOCKER_CONFIG")
                    .or_else(|| set("HOME").map(|home| home.join(".docker")))
                    .map(|dir| dir.join("config.json")),
            ];
            places.into_iter().flatten().filter(|path| path.is_absolute()).collect()
        }
    };
    let cert_dirs = match &*common.cert_dir {
        [] => CERT_DIRS.map(PathBuf::from).to_vec(),
        named => all(named)?,
    };
    let ca_files = all(&common.ca_file)?;
    Ok(Access { plain_http: common.plain_http, auth_files, cert_dirs, ca_files, temp_dir: temp_dir() })
}

/// Returns a variable that is set and not empty.
pub(crate) fn set(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Returns a directory of the XDG base directory specification; a relative one counts as unset.
fn home(variable: &'static str, below_home: &str) -> Result<PathBuf, Error> {
    let absolute = |name| set(name).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home))).ok_or_else(|| Error::Usage {
        object: variable.to_owned(),
        reason: "neither it nor HOME names a directory".to_owned(),
        hint: "give --store and --node-key",
    })
}
