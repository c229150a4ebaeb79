//! An image that is written layer by layer into a new OCI layout, with tools that are not ours.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::layout::{CorpusLayout, blob};
use crate::dimsum::tool;
use crate::tree::hex;

/// How a layer's tar is stored.
#[derive(Debug, Clone, Copy)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

#[derive(Debug)]
pub struct Draft {
    directory: PathBuf,
    config: Value,
    layers: Vec<Value>,
    diff_ids: Vec<Value>,
}

impl Draft {
    /// Starts an image with this config but for its layers.
    pub fn new(directory: &Path, config: Value) -> Result<Self> {
        fs::create_dir_all(directory.join("blobs/sha256"))?;
        Ok(Self { directory: directory.to_owned(), config, layers: Vec::new(), diff_ids: Vec::new() })
    }

    /// Starts an image without a command or anything else.
    pub fn empty(directory: &Path) -> Result<Self> {
        Self::new(
            directory,
            json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers"}}),
        )
    }

    /// Adds a layer of another image as it is.
    pub fn same(&mut self, other: &CorpusLayout, index: usize) -> Result<()> {
        let digest = &other.layer_digests()[index];
        fs::copy(blob(&other.directory, digest), blob(&self.directory, digest))?;
        self.layers.push(other.manifest["layers"][index].clone());
        self.diff_ids.push(other.config["rootfs"]["diff_ids"][index].clone());
        Ok(())
    }

    /// Adds a layer of this tar, which is taken away; returns its stored bytes.
    pub fn tar(&mut self, tar: PathBuf, packing: Packing) -> Result<u64> {
        let diff_id = digest_of(&tar)?;
        let (file, suffix) = match packing {
            Packing::Plain => (tar, ""),
            Packing::Gzip => {
                // As corpus.sh does it.
                tool("pigz", &["-n", "-6", &tar.to_string_lossy()])?;
                (with_suffix(&tar, ".gz"), "+gzip")
            }
            Packing::Zstd => {
                tool("zstd", &["-q", "-f", "-3", "-T2", "--rm", &tar.to_string_lossy()])?;
                (with_suffix(&tar, ".zst"), "+zstd")
            }
        };
        let digest = digest_of(&file)?;
        self.adopt(&file, digest, diff_id, suffix)
    }

    /// Adds a layer that is not compressed and is too large to be in memory or written twice.
    pub fn stream(&mut self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<u64> {
        let file = self.directory.join("layer.tar");
        let mut out = BlobHasher { out: BufWriter::new(File::create(&file)?), hash: Sha256::new() };
        write(&mut out)?;
        out.flush()?;
        let digest = format!("sha256:{}", hex(&out.hash.finalize()));
        self.adopt(&file, digest.clone(), digest, "")
    }

    /// Takes a file of this file system as the next layer.
    fn adopt(&mut self, file: &Path, digest: String, diff_id: String, suffix: &str) -> Result<u64> {
        let size = file.metadata()?.len();
        let moved = fs::rename(file, blob(&self.directory, &digest));
        moved.with_context(|| format!("{} becomes a blob", file.display()))?;
        let media_type = format!("application/vnd.oci.image.layer.v1.tar{suffix}");
        self.layers.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
        self.diff_ids.push(json!(diff_id));
        Ok(size)
    }

    /// Writes config, manifest and index.
    pub fn finish(mut self, tag: &str) -> Result<CorpusLayout> {
        self.config["rootfs"]["diff_ids"] = Value::Array(self.diff_ids);
        if let Some(history) = self.config["history"].as_array_mut() {
            history.resize(self.layers.len(), json!({"created_by": "xtask"}));
        }
        let (config, config_size) = put(&self.directory, &self.config)?;
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
            "layers": self.layers});
        let (digest, size) = put(&self.directory, &manifest)?;
        let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": manifest["mediaType"], "digest": digest, "size": size,
            "annotations": {"org.opencontainers.image.ref.name": tag}}]});
        fs::write(self.directory.join("index.json"), serde_json::to_vec(&index)?)?;
        fs::write(self.directory.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        CorpusLayout::open(&self.directory, None)
    }
}

struct BlobHasher<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for BlobHasher<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn put(directory: &Path, value: &Value) -> Result<(String, usize)> {
    let bytes = serde_json::to_vec(value)?;
    let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
    fs::write(blob(directory, &digest), &bytes)?;
    Ok((digest, bytes.len()))
}

/// By a program that need not have the file in memory.
fn digest_of(file: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg("-b").arg(file).output().context("sha256sum")?;
    ensure!(output.status.success(), "sha256sum {}", file.display());
    let text = String::from_utf8(output.stdout)?;
    Ok(format!("sha256:{}", text.split_whitespace().next().context("output of sha256sum")?.trim_start_matches('\\')))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
