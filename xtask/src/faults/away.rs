//! A registry that goes away under a mounted image, and comes back: what is local goes on, the rest waits, fails, and heals.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{CaseLog, FuseMount, read_all};
use crate::corpus::layout::CorpusLayout;
use crate::demo::drop_caches;
use crate::dimsum::Dimsum;
use crate::peers::RegistryProcess;
use crate::tree::{self, ListedEntry};

/// Between two readings of what is local.
const BETWEEN: Duration = Duration::from_secs(10);

pub fn run(layout: &Path, seconds: &str, out: &Path) -> Result<()> {
    fs::create_dir_all(out)?;
    let away = Duration::from_secs(seconds.parse().context("seconds that the registry is away")?);
    let scratch = tempfile::Builder::new().prefix("dimsum-away-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let source = CorpusLayout::open(layout, None)?;
    let mut registry = RegistryProcess::start(&scratch.path().join("registry"))?;
    let name = format!("{}/app:dimsum", registry.address);
    dimsum.ok(&["convert", &source.reference(), &name])?;
    // The tree as another store has it, from the layout.
    let reference = {
        let other = dimsum.with_store(&scratch.path().join("other"))?;
        let mounted = FuseMount::new(&other, &source, &scratch.path().join("reference"))?;
        tree::from_directory(&mounted.path)?
    };
    let mut log = CaseLog::create(&out.join("away.jsonl"))?;
    let mounted = FuseMount::by_name(&dimsum, &name, &scratch.path().join("mount"))?;
    // Chunks hold neighbouring files: what is read and what is not come from far apart.
    let files: Vec<ListedEntry> =
        reference.iter().filter(|entry| entry.kind == 'f' && entry.size > 0).cloned().collect();
    let (local, rest) = files.split_at(files.len() / 2);
    let first = read_all(&mounted.path, local);
    log.case(&first.add_to(json!({"case": "the registry answers", "files": local.len()})))?;
    registry.stop()?;
    let gone = Instant::now();
    let (mut rounds, mut reads, mut refused) = (0, 0, 0);
    let missing = slowest(rest).context("a file that nobody has read")?;
    let start = Instant::now();
    let failed = tree::sha256_of(&mounted.path, &missing.path).is_err();
    let waited = start.elapsed().as_secs_f64();
    log.case(&json!({"case": "a chunk that is not here", "failed": failed, "waited_s": waited, "file": missing.path}))?;
    while gone.elapsed() < away {
        drop_caches()?;
        let again = read_all(&mounted.path, local);
        ensure!(again.wrong == 0, "wrong bytes");
        (rounds, reads, refused) = (rounds + 1, reads + again.right, refused + again.refused);
        std::thread::sleep(BETWEEN);
    }
    log.case(&json!({"case": "the registry is away", "seconds": gone.elapsed().as_secs_f64(), "rounds": rounds,
        "right": reads, "refused": refused, "wrong": 0}))?;
    registry.start_again()?;
    let back = Instant::now();
    let mut healed: Value = Value::Null;
    while healed.is_null() && back.elapsed() < Duration::from_secs(120) {
        if tree::sha256_of(&mounted.path, &missing.path).is_ok_and(|digest| digest == missing.sha256) {
            healed = json!(back.elapsed().as_secs_f64());
        }
    }
    log.case(&json!({"case": "the registry is back", "first_read_after_s": healed}))?;
    let whole = read_all(&mounted.path, &reference);
    log.case(&whole.add_to(json!({"case": "everything is read", "files": files.len()})))?;
    ensure!(failed && !healed.is_null() && refused == 0, "see the cases");
    ensure!(whole.refused + whole.wrong == 0, "not everything could be read again");
    Ok(())
}

/// The largest of the unread files: its chunks are its own.
fn slowest(files: &[ListedEntry]) -> Option<&ListedEntry> {
    files.iter().max_by_key(|entry| entry.size)
}
