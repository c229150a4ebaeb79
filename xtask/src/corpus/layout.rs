//! Rewriting an OCI layout with tools that are not ours: the same trees in another dress.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::draft::{Draft, Packing};
use super::retar;

/// An OCI layout with one image.
#[derive(Debug)]
pub struct CorpusLayout {
    pub directory: PathBuf,
    pub tag: String,
    pub manifest: Value,
    pub config: Value,
}

impl CorpusLayout {
    /// Opens the layout; `tag` chooses among several images.
    pub fn open(directory: &Path, tag: Option<&str>) -> Result<Self> {
        let index: Value = json_file(&directory.join("index.json"))?;
        let name =
            |entry: &Value| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().map(str::to_owned);
        let entries = index["manifests"].as_array().context("index.json has no manifests")?;
        let entry = entries.iter().find(|entry| tag.is_none() || name(entry).as_deref() == tag);
        let entry = entry.with_context(|| format!("{}: no image {tag:?}", directory.display()))?;
        let tag = name(entry).context("an image without a tag")?;
        let manifest: Value = json_file(&blob(directory, entry["digest"].as_str().unwrap_or_default()))?;
        let config: Value = json_file(&blob(directory, manifest["config"]["digest"].as_str().unwrap_or_default()))?;
        Ok(Self { directory: directory.to_owned(), tag, manifest, config })
    }

    pub fn reference(&self) -> String {
        format!("oci:{}:{}", self.directory.display(), self.tag)
    }

    /// Files of the layers, lowest first.
    pub fn layers(&self) -> Vec<PathBuf> {
        let layers = self.manifest["layers"].as_array().into_iter().flatten();
        layers.map(|layer| blob(&self.directory, layer["digest"].as_str().unwrap_or_default())).collect()
    }

    pub fn layer_digests(&self) -> Vec<String> {
        let layers = self.manifest["layers"].as_array().into_iter().flatten();
        layers.map(|layer| layer["digest"].as_str().unwrap_or_default().to_owned()).collect()
    }

    pub fn label(&self, name: &str) -> Option<&str> {
        self.config["config"]["Labels"][name].as_str()
    }

    /// The same blobs under another tag: umoci takes no colon in a tag.
    pub fn alias(&self, directory: &Path, tag: &str) -> Result<Self> {
        fs::create_dir_all(directory)?;
        std::os::unix::fs::symlink(fs::canonicalize(self.directory.join("blobs"))?, directory.join("blobs"))?;
        let mut index: Value = json_file(&self.directory.join("index.json"))?;
        for entry in index["manifests"].as_array_mut().into_iter().flatten() {
            entry["annotations"]["org.opencontainers.image.ref.name"] = json!(tag);
        }
        fs::write(directory.join("index.json"), serde_json::to_vec(&index)?)?;
        fs::write(directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Self::open(directory, None)
    }

    /// Writes the image again with zstd layers; with `reorder`, the entries of each tar in another order.
    pub fn rewrite(&self, directory: &Path, reorder: bool) -> Result<Self> {
        self.rewrite_as(directory, reorder, Packing::Zstd)
    }

    /// Writes the image again with layers that are not compressed.
    pub fn rewrite_plain(&self, directory: &Path) -> Result<Self> {
        self.rewrite_as(directory, false, Packing::Plain)
    }

    fn rewrite_as(&self, directory: &Path, reorder: bool, packing: Packing) -> Result<Self> {
        let mut draft = Draft::new(directory, self.config.clone())?;
        for layer in self.layers() {
            let tar = directory.join("layer.tar");
            decompress(&layer, &tar)?;
            if reorder {
                let bytes = fs::read(&tar)?;
                fs::write(&tar, retar::reorder(&bytes).with_context(|| layer.display().to_string())?)?;
            }
            draft.tar(tar, packing)?;
        }
        draft.finish(&self.tag)
    }
}

pub fn blob(directory: &Path, digest: &str) -> PathBuf {
    directory.join("blobs").join(digest.replace(':', "/"))
}

/// Decompresses gzip, zstd or plain into `out` by the stock tools.
pub fn decompress(layer: &Path, out: &Path) -> Result<()> {
    let mut magic = [0; 4];
    let length = std::io::Read::read(&mut fs::File::open(layer)?, &mut magic)?;
    let (program, arguments): (_, &[&str]) = match &magic[..length] {
        [0x1f, 0x8b, ..] => ("gzip", &["-dc"]),
        [0x28, 0xb5, 0x2f, 0xfd] => ("zstd", &["-q", "-dc"]),
        _ => ("cat", &[]),
    };
    let (from, to) = (fs::File::open(layer)?, fs::File::create(out)?);
    let status = Command::new(program).args(arguments).stdin(from).stdout(to).stderr(Stdio::inherit()).status();
    let status = status.context(program)?;
    ensure!(status.success(), "{program} {}: {status}", layer.display());
    Ok(())
}

fn json_file(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
}
