//! Nydus's converters, where somebody has built them: `DIMSUM_NYDUS` names a directory with `nydus-image` (v2) and `nydus` (v3).
//!
//! Version 2 reads the tars that we read, a layer at a time, and then merges the layers' metadata. It also reads a
//! directory, as `build` of version 3 does. Compression is theirs by default: zstd, at zstd's default level.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail, ensure};

use super::convert::Inputs;
use super::timing::{MeasuredTimes, time};

/// Where the programs are.
const PROGRAMS: &str = "DIMSUM_NYDUS";

const V2_PLAIN: &str = "nydus-image create -t tar-rafs of plain tar";
const V2_GZIP: &str = "nydus-image create -t targz-rafs of gzip layers";
const V2_DIR: &str = "nydus-image create -t dir-rafs of dir";
const V3_DIR: &str = "nydus build of dir";

/// The programs that there are.
#[derive(Debug, Default)]
pub struct Nydus {
    v2: Option<PathBuf>,
    v3: Option<PathBuf>,
}

impl Nydus {
    pub fn from_env() -> Result<Self> {
        let Some(directory) = std::env::var_os(PROGRAMS).map(PathBuf::from) else { return Ok(Self::default()) };
        let program = |name: &str| Some(directory.join(name)).filter(|path| path.exists());
        let found = Self { v2: program("nydus-image"), v3: program("nydus") };
        ensure!(found.v2.is_some() || found.v3.is_some(), "{}: neither nydus-image nor nydus", directory.display());
        Ok(found)
    }

    pub fn contestants(&self) -> impl Iterator<Item = &'static str> {
        let v2 = self.v2.as_ref().map(|_| [V2_PLAIN, V2_GZIP, V2_DIR]);
        v2.into_iter().flatten().chain(self.v3.as_ref().map(|_| V3_DIR))
    }

    /// Converts an image into the empty directory `out`.
    pub fn run(&self, what: &str, inputs: &Inputs, out: &Path) -> Result<MeasuredTimes> {
        match (what, &self.v2, &self.v3) {
            (V2_PLAIN, Some(program), _) => layers(program, "tar-rafs", &inputs.plain.layers(), out),
            (V2_GZIP, Some(program), _) => layers(program, "targz-rafs", &inputs.gzip.layers(), out),
            (V2_DIR, Some(program), _) => create(program, "dir-rafs", &inputs.tree, &out.join("bootstrap"), out),
            (V3_DIR, _, Some(program)) => {
                let mut build = Command::new(program);
                build.args(["build", "--blob-dir"]).arg(out).arg("--bootstrap").arg(out.join("bootstrap"));
                Ok(time(build.arg(&inputs.tree))?.0)
            }
            _ => bail!("no contestant {what}"),
        }
    }
}

/// Each layer by itself, as nydus's own tools for images call it, then the image's metadata.
fn layers(program: &Path, kind: &str, layers: &[PathBuf], out: &Path) -> Result<MeasuredTimes> {
    let mut merge = Command::new(program);
    merge.arg("merge").arg("--bootstrap").arg(out.join("bootstrap"));
    let mut all: Option<MeasuredTimes> = None;
    for (number, layer) in layers.iter().enumerate() {
        let bootstrap = out.join(format!("bootstrap-{number}"));
        let taken = create(program, kind, layer, &bootstrap, out)?;
        all = Some(all.map_or(taken, |all| all.then(taken)));
        merge.arg(bootstrap);
    }
    let merged = time(&merge)?.0;
    Ok(all.map_or(merged, |all| all.then(merged)))
}

fn create(program: &Path, kind: &str, source: &Path, bootstrap: &Path, out: &Path) -> Result<MeasuredTimes> {
    let mut create = Command::new(program);
    create.args(["create", "--type", kind, "--log-level", "error", "--blob-dir"]).arg(out);
    Ok(time(create.arg("--bootstrap").arg(bootstrap).arg(source))?.0)
}
