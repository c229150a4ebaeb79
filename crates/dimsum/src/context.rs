//! What every command gets: the places of this node, and how to speak. The only code that reads the environment.

use std::env;
use std::path::PathBuf;

use crate::cli::Common;
use crate::error::Error;
use crate::output::Output;
use crate::progress::{Progress, note};
use crate::signals::Interrupts;

/// What `check --store` gives in the place of a directory: the store that it would be without.
pub const DEFAULT_STORE: &str = "-";

/// The surroundings of a command.
#[derive(Debug, Clone)]
pub struct Context {
    /// The store's directory, absolute.
    pub store: PathBuf,
    /// The node key's file.
    pub node_key: PathBuf,
    /// Where temporary files go; they have no names there.
    pub temp_dir: PathBuf,
    /// Where results go.
    pub output: Output,
    /// How progress is shown.
    pub progress: Progress,
    /// The signals of this process, where the command takes them over.
    pub interrupts: Option<Interrupts>,
    /// Whether decisions are explained.
    verbose: bool,
}

impl Context {
    /// Fills in what the common options leave open.
    ///
    /// # Errors
    /// If neither options nor environment say where the store is.
    pub fn new(common: &Common) -> Result<Self, Error> {
        let root = rustix::process::geteuid().is_root();
        let named = common.store.clone().filter(|store| store.as_os_str() != DEFAULT_STORE);
        let store = match named.or_else(|| set("DIMSUM_STORE")) {
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
        // Not /tmp, which is in memory on many machines: a layer's files pass through.
        let temp_dir = env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
        let output = Output::new(common.format);
        Ok(Self {
            store,
            node_key,
            temp_dir,
            output,
            progress: Progress::new(common.format),
            interrupts: None,
            verbose: common.verbose,
        })
    }

    /// Returns the surroundings with the signals of this process taken over. Call it before the first thread is started.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn with_interrupts(&self) -> Result<(Self, Interrupts), Error> {
        let interrupts = Interrupts::take_over()?;
        Ok((Self { interrupts: Some(interrupts.clone()), ..self.clone() }, interrupts))
    }

    /// Explains a decision to who asked for explanations.
    pub fn explain(&self, line: &str) {
        if self.verbose {
            note(line);
        }
    }
}

/// Returns a variable that is set and not empty.
fn set(variable: &str) -> Option<PathBuf> {
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
