//! Flip, truncate and punch.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FallocateFlags, fallocate};
use serde_json::json;

use super::{CaseLog, FuseMount, Reading, read_all};
use crate::corpus::layout::{CorpusLayout, blob};
use crate::demo::{drop_caches, files};
use crate::dimsum::Dimsum;
use crate::tree;

/// Places damaged per kind of file and kind of damage.
const PLACES: u64 = 500;

/// The kinds of files that the store has of an image, by their names.
const KINDS: [&str; 6] = ["data", "state", "meta", "index", "manifest", "config"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Flip,
    Punch,
    Truncate,
}

impl Damage {
    const ALL: [Self; 3] = [Self::Flip, Self::Punch, Self::Truncate];
}

/// Damages each kind of file of a warm store, then reads everything through a mount.
pub fn store(dimsum: &Dimsum, image: &CorpusLayout, scratch: &Path, log: &mut CaseLog) -> Result<()> {
    let mount = scratch.join("mount");
    let reference = {
        let mounted = FuseMount::new(dimsum, image, &mount)?;
        tree::from_directory(&mounted.path)?
    };
    for kind in KINDS {
        for damage in Damage::ALL {
            let places = hurt(&of_kind(dimsum, kind)?, damage, PLACES)?;
            drop_caches()?;
            let case = json!({"where": "store", "kind": kind, "damage": format!("{damage:?}"), "places": places});
            let reading = {
                let mounted = FuseMount::new(dimsum, image, &mount)?;
                drop_caches()?;
                read_all(&mounted.path, &reference)
            };
            ensure!(reading.refused == 0, "{case}: {} files did not heal though the source is whole", reading.refused);
            log.case(&reading.add_to(case))?;
        }
    }
    for kind in KINDS {
        hurt(&of_kind(dimsum, kind)?, Damage::Flip, 1)?;
        let output = dimsum.output(&["check", &image.reference(), "--store"])?;
        let named = String::from_utf8_lossy(&output.stdout).contains(kind)
            || String::from_utf8_lossy(&output.stderr).contains(kind);
        log.case(&json!({"where": "store", "kind": kind, "check --store": output.status.code(), "named": named}))?;
        ensure!(output.status.code() == Some(3), "check --store does not see a damaged {kind}");
        let mounted = FuseMount::new(dimsum, image, &mount)?;
        ensure!(read_all(&mounted.path, &reference).refused == 0, "{kind} did not heal");
    }
    index(dimsum, image, scratch, &reference, log)
}

/// Damages the index one position at a time. The meta root does not prove the lengths in it, so each must lead to the
/// right tree or nowhere.
fn index(
    dimsum: &Dimsum,
    image: &CorpusLayout,
    scratch: &Path,
    reference: &[tree::ListedEntry],
    log: &mut CaseLog,
) -> Result<()> {
    let mount = scratch.join("mount");
    let [path] = &of_kind(dimsum, "index")?[..] else { bail!("the store of one image has one index") };
    let (saved, length) = (save(std::slice::from_ref(path))?, path.metadata()?.size());
    // Every directory is listed and every name looked up; of the files some are read, since data does not depend on the index.
    let names = reference.iter().filter(|entry| entry.kind != 'd').count();
    let some: Vec<tree::ListedEntry> =
        reference.iter().filter(|entry| entry.kind == 'f').step_by(300).cloned().collect();
    for damage in Damage::ALL {
        let (mut sum, mut places, mut noticed) = (Reading::default(), 0, 0);
        for number in 0..PLACES.min(length) {
            hurt_at(path, damage, number * length / PLACES.min(length), length)?;
            places += 1;
            let mounted = FuseMount::new(dimsum, image, &mount)?;
            let listed = files(&mounted.path)?.len();
            let reading = read_all(&mounted.path, &some);
            sum.right += reading.right;
            sum.refused += reading.refused;
            sum.wrong += reading.wrong + u64::from(listed != names);
            noticed += u64::from(dimsum.mount_info(&mounted.path)?["stats"]["damage"].as_u64() > Some(0));
            drop(mounted);
            restore(&saved)?;
        }
        ensure!(sum.refused == 0, "index, {damage:?}: {} files did not heal though the source is whole", sum.refused);
        let case = json!({"where": "store", "kind": "index, one place at a time", "damage": format!("{damage:?}"), "places": places, "noticed": noticed});
        log.case(&sum.add_to(case))?;
    }
    Ok(())
}

/// Files of a kind; an image has some of each.
fn of_kind(dimsum: &Dimsum, kind: &str) -> Result<Vec<PathBuf>> {
    let found: Vec<PathBuf> =
        files(&dimsum.store)?.into_iter().filter(|path| path.file_name() == Some(kind.as_ref())).collect();
    ensure!(!found.is_empty(), "the store has no file named {kind}");
    Ok(found)
}

/// Damages each kind of blob of the layout, one place at a time for the small ones, and starts from an empty store each time.
pub fn layout(dimsum: &Dimsum, image: &CorpusLayout, scratch: &Path, log: &mut CaseLog) -> Result<()> {
    let mount = scratch.join("mount");
    let reference = {
        let mounted = FuseMount::new(dimsum, image, &mount)?;
        tree::from_directory(&mounted.path)?
    };
    let mut layers = image.layers();
    let meta = layers.pop().context("no meta")?;
    for damage in Damage::ALL {
        let saved = save(&layers)?;
        let places = hurt(&layers, damage, PLACES)?;
        let fresh = dimsum.with_store(&scratch.join("fresh"))?;
        let reading = {
            let mounted = FuseMount::new(&fresh, image, &mount)?;
            read_all(&mounted.path, &reference)
        };
        let check = fresh.output(&["check", &image.reference(), "--data"])?.status.code();
        let case = json!({"where": "layout", "kind": "pack", "damage": format!("{damage:?}"), "places": places, "check --data": check});
        log.case(&reading.add_to(case))?;
        ensure!(check == Some(3), "check --data does not see damaged packs");
        restore(&saved)?;
        fs::remove_dir_all(&fresh.store)?;
    }
    let manifest_digest = manifest_digest(image)?;
    let config = blob(&image.directory, image.manifest["config"]["digest"].as_str().unwrap_or_default());
    for (kind, path) in [("meta", meta), ("manifest", blob(&image.directory, &manifest_digest)), ("config", config)] {
        for damage in Damage::ALL {
            let (mut refused, mut right, mut places) = (0, 0, 0);
            let length = path.metadata()?.size();
            let saved = save(std::slice::from_ref(&path))?;
            for number in 0..PLACES.min(length) {
                hurt_at(&path, damage, number * length / PLACES.min(length), length)?;
                places += 1;
                let status = dimsum.output(&["check", &image.reference()])?.status.code();
                match status {
                    Some(3 | 1) => refused += 1,
                    // Punching zeros changes nothing.
                    Some(0) if fs::read(&path)? == saved[0].1 => right += 1,
                    _ => {
                        log.case(&json!({"where": "layout", "kind": kind, "at": number, "wrong": 1, "exit": status}))?
                    }
                }
                restore(&saved)?;
            }
            log.case(&json!({"where": "layout", "kind": kind, "damage": format!("{damage:?}"), "places": places,
                "refused": refused, "unchanged": right, "wrong": 0}))?;
        }
    }
    Ok(())
}

fn manifest_digest(image: &CorpusLayout) -> Result<String> {
    let index: serde_json::Value = serde_json::from_slice(&fs::read(image.directory.join("index.json"))?)?;
    Ok(index["manifests"][0]["digest"].as_str().context("digest")?.to_owned())
}

/// Spreads `places` over the files by length; returns how many there were.
fn hurt(files: &[PathBuf], damage: Damage, places: u64) -> Result<u64> {
    let lengths: Vec<u64> = files.iter().map(|path| Ok(path.metadata()?.size())).collect::<Result<_>>()?;
    let total: u64 = lengths.iter().sum();
    let mut done = 0;
    for (path, length) in files.iter().zip(lengths) {
        let count = if damage == Damage::Truncate { 1 } else { (places * length).div_ceil(total.max(1)).max(1) };
        for number in 0..count.min(length) {
            hurt_at(path, damage, number * length / count, length)?;
            done += 1;
        }
    }
    Ok(done)
}

fn hurt_at(path: &Path, damage: Damage, at: u64, length: u64) -> Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    match damage {
        Damage::Flip => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at)?;
            byte[0] ^= 1 << (at % 8);
            file.write_all_at(&byte, at)?;
        }
        Damage::Punch => punch(&file, at)?,
        Damage::Truncate => file.set_len(if at == 0 { length / 2 } else { at })?,
    }
    Ok(())
}

fn punch(file: &File, at: u64) -> Result<()> {
    fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, at, 4096).context("fallocate")
}

fn save(files: &[PathBuf]) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    files.iter().map(|path| Ok((path.clone(), fs::read(path)?))).collect()
}

fn restore(saved: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    for (path, bytes) in saved {
        fs::write(path, bytes)?;
    }
    Ok(())
}
