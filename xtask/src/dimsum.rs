//! The built program, called as a user would.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// The release binary of this workspace, built if need be, with a store of its own.
#[derive(Debug, Clone)]
pub struct Dimsum {
    pub binary: PathBuf,
    pub store: PathBuf,
}

impl Dimsum {
    /// Builds the binary (or takes `$DIMSUM_BINARY`) and gives it the store `store`.
    pub fn new(store: &Path) -> Result<Self> {
        std::fs::create_dir_all(store)?;
        if let Some(binary) = std::env::var_os("DIMSUM_BINARY") {
            return Ok(Self { binary: binary.into(), store: store.to_owned() });
        }
        let root = workspace();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--release", "--locked", "--quiet", "--package", "dimsum"])
            .current_dir(&root)
            .status()
            .context("cargo build")?;
        if !status.success() {
            bail!("cargo build: {status}");
        }
        Ok(Self { binary: target_directory().join("release/dimsum"), store: store.to_owned() })
    }

    /// The same program with another store.
    pub fn with_store(&self, store: &Path) -> Result<Self> {
        std::fs::create_dir_all(store)?;
        Ok(Self { binary: self.binary.clone(), store: store.to_owned() })
    }

    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .env("DIMSUM_STORE", &self.store)
            .env("DIMSUM_NODE_KEY", self.store.with_extension("key"));
        command
    }

    /// Runs a command, whatever its exit status.
    pub fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        self.command(arguments).output().with_context(|| self.binary.display().to_string())
    }

    /// Runs a command that must succeed; returns its standard output.
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = self.output(arguments)?;
        if !output.status.success() {
            let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            bail!("dimsum {}: {}\n{out}{err}", words.join(" "), output.status);
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `dimsum info` says of server and mounts.
    pub fn info(&self) -> Result<Value> {
        serde_json::from_str(&self.ok(&["info", "--format", "json"])?).context("output of info")
    }

    /// What `dimsum info` says of the image that is mounted on `mount`.
    pub fn mount_info(&self, mount: &Path) -> Result<Value> {
        let info = self.info()?;
        let mut mounts = info["mounts"].as_array().into_iter().flatten();
        let found = mounts.find(|entry| entry["target"] == json!(mount));
        found.cloned().with_context(|| format!("info does not know the mount {}", mount.display()))
    }
}

/// Where cargo puts what it builds.
pub fn target_directory() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), |path| workspace().join(path))
}

/// An example that is quickly built and links no crate of ours.
pub const SOME_EXAMPLE: &str = "nothing";

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").to_owned()
}

/// Runs a program that must succeed; returns its standard output.
pub fn tool<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    if !output.status.success() {
        bail!("{program}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
