//! What is pushed after a small change, with `--dedup-with auto`, beside the layers that an ordinary push would move.
//!
//! The registry's own directory shows the new blobs. Each is a pack, the meta, the config or a manifest of the new
//! image.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::timing::time;
use super::{BenchTask, extend, name_of, shared};
use crate::corpus::draft::{Draft, Packing};
use crate::corpus::layout::{CorpusLayout, decompress};
use crate::corpus::{retar, unpack};
use crate::dimsum::Dimsum;
use crate::peers::{RegistryProcess, done};

/// Images, and in each a large directory whose owner is changed.
const IMAGES: &[(&str, &str)] = &[("express:v3", "app"), ("flask:v3", "usr/local/lib")];
/// The directory of an image that is not in [`IMAGES`].
const USUAL_DIRECTORY: &str = "usr/lib";
/// Bytes that change in a file.
const CHANGE: &[u8] = b"a small change";
/// A small file has at least and at most so many bytes.
const SMALL: std::ops::RangeInclusive<usize> = 1024..=32 << 10;

/// What changes between two versions of an image.
#[derive(Debug, Clone, Copy)]
enum UpdateChange {
    /// A file of the highest layer.
    Top,
    /// A small file of a middle layer.
    Middle,
    /// The largest file of a middle layer.
    MiddleLarge,
    /// The owner of a large directory, by a new layer.
    Owner,
}

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-update-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = task.log("update")?;
    let usual: Vec<_> = IMAGES.iter().map(|(name, _)| *name).collect();
    for directory in task.images(&usual)? {
        let name = name_of(&directory)?;
        let old = CorpusLayout::open(&directory, None)?;
        for change in [UpdateChange::Top, UpdateChange::Middle, UpdateChange::MiddleLarge, UpdateChange::Owner] {
            let work = scratch.path().join("work");
            fs::create_dir_all(&work)?;
            let (new, what, gzip_bytes) = change.of(&old, name, &work)?;
            let mut row = json!({"image": name, "change": format!("{change:?}"), "what": what, "changed_layer_gzip_bytes": gzip_bytes});
            extend(&mut row, push(&dimsum, &old, &new, &work)?);
            log.shown(&row)?;
            fs::remove_dir_all(&work)?;
        }
    }
    Ok(())
}

/// Converts both versions into one repository and counts what the second brought.
fn push(dimsum: &Dimsum, old: &CorpusLayout, new: &CorpusLayout, work: &Path) -> Result<Value> {
    let registry = RegistryProcess::start(&work.join("registry"))?;
    let target = format!("{}/app:latest", registry.address);
    let convert = |image: &CorpusLayout| -> Result<(Value, Value)> {
        let words = ["convert", &image.reference(), &target, "--dedup-with", "auto", "--format", "json"];
        let (taken, printed) = time(&dimsum.command(&words))?;
        Ok((taken.line(), serde_json::from_slice(&printed).context("summary of convert")?))
    };
    let (first, _) = convert(old)?;
    let before = registry.blobs()?;
    let (second, summary) = convert(new)?;
    let manifest_digest = summary["manifest"].as_str().context("a manifest")?;
    let manifest: Value = serde_json::from_slice(&registry.blob(manifest_digest)?)?;
    let mut layers: Vec<_> =
        manifest["layers"].as_array().context("layers")?.iter().map(|layer| &layer["digest"]).collect();
    let meta = layers.pop().context("a meta")?;
    let mut new = BTreeMap::from(["packs", "meta", "config", "manifest", "other"].map(|kind| (kind, 0)));
    let mut packs = Vec::new();
    for (digest, bytes) in registry.blobs()?.into_iter().filter(|(digest, _)| !before.contains_key(digest)) {
        let is = |value: &Value| *value == json!(digest);
        let kind = match () {
            () if layers.iter().any(|layer| is(layer)) => "packs",
            () if is(meta) => "meta",
            () if is(&manifest["config"]["digest"]) => "config",
            () if digest == manifest_digest => "manifest",
            () => "other",
        };
        *new.entry(kind).or_default() += bytes;
        if kind == "packs" {
            packs.push(json!(digest));
        }
    }
    let all: u64 = new.values().sum();
    let of_packs = |field: &str| -> u64 {
        let layers = summary["layers"].as_array().into_iter().flatten();
        layers.filter(|layer| packs.contains(&layer["pack"])).filter_map(|layer| layer[field].as_u64()).sum()
    };
    // A pack holds its layer meta.
    let layer_meta = of_packs("layer_meta_bytes");
    let mut row = json!({"new_bytes": all, "of_packs_data": new["packs"].saturating_sub(layer_meta), "of_packs_layer_meta": layer_meta,
        "new_by_kind": new, "new_packs": packs.len(), "new_chunks": of_packs("chunks"), "layers_listed": layers.len(),
        "first": first, "second": second});
    extend(&mut row, shared(&summary));
    Ok(row)
}

impl UpdateChange {
    /// The new version, what changed in it, and the gzip bytes of the layer that differs.
    fn of(self, old: &CorpusLayout, name: &str, work: &Path) -> Result<(CorpusLayout, String, u64)> {
        let count = old.layers().len();
        let changed = match self {
            Self::Top => count - 1,
            Self::Middle | Self::MiddleLarge => count / 2,
            Self::Owner => count,
        };
        let directory = work.join("new");
        let mut draft = Draft::new(&directory, old.config.clone())?;
        let (mut what, mut bytes) = (String::new(), 0);
        for index in 0..count.max(changed + 1) {
            if index != changed {
                draft.same(old, index)?;
                continue;
            }
            let tar = work.join("layer.tar");
            what = match self {
                Self::Owner => change_owner(old, name, &tar, work)?,
                _ => self.change_file(old, index, &tar)?,
            };
            bytes = draft.tar(tar, Packing::Gzip)?;
        }
        Ok((draft.finish("new")?, what, bytes))
    }

    /// Writes the tar of a layer with one file changed; returns its path.
    fn change_file(self, old: &CorpusLayout, index: usize, tar: &Path) -> Result<String> {
        let layers = old.layers();
        let hidden: Vec<String> =
            layers[index + 1..].iter().map(|layer| listing(layer, tar)).collect::<Result<Vec<_>>>()?.concat();
        decompress(&layers[index], tar)?;
        let mut bytes = fs::read(tar)?;
        let mut files = retar::files(&bytes)?;
        files.retain(|file| file.range.len() >= CHANGE.len() && !hidden.contains(&file.path));
        // By size, then by name: the same file in every run.
        files.sort_by(|a, b| (a.range.len(), &a.path).cmp(&(b.range.len(), &b.path)));
        let small: Vec<_> = files.iter().filter(|file| SMALL.contains(&file.range.len())).collect();
        let file = match self {
            Self::Middle => small.get(small.len() / 2).copied().context("a small file")?,
            _ => files.last().context("a file")?,
        };
        let middle = file.range.start + (file.range.len() - CHANGE.len()) / 2;
        bytes[middle..middle + CHANGE.len()].copy_from_slice(CHANGE);
        fs::write(tar, &bytes)?;
        Ok(format!("{}, {} bytes, in layer {} of {}", file.path, file.range.len(), index + 1, layers.len()))
    }
}

/// Paths in a layer's tar.
fn listing(layer: &Path, scratch: &Path) -> Result<Vec<String>> {
    decompress(layer, scratch)?;
    Ok(retar::files(&fs::read(scratch)?)?.into_iter().map(|file| file.path).collect())
}

/// Writes what `RUN chown -R 1000:1000 DIRECTORY` leaves in an upper directory: every file again, with another owner.
fn change_owner(old: &CorpusLayout, name: &str, tar: &Path, work: &Path) -> Result<String> {
    let known = IMAGES.iter().find(|(image, _)| image.replacen(':', "-", 1) == name);
    let directory = known.map_or(USUAL_DIRECTORY, |(_, directory)| directory);
    let tree: PathBuf = work.join("tree");
    unpack::unpack(old, &tree)?;
    let mut pack = Command::new("tar");
    pack.args(["--numeric-owner", "--owner=1000", "--group=1000", "--sort=name", "-cf"]).arg(tar).arg("-C").arg(&tree);
    done(pack.arg(directory))?;
    fs::remove_dir_all(tree)?;
    Ok(format!("chown -R of {directory}"))
}
