//! What a source that never answers costs the readers of another image.
//!
//! Image A lies in a layout whose pack becomes a FIFO once A is mounted. A thread that opens the FIFO waits for a
//! writer, and there is none. So the release binary hangs as it would on a dead network file system. [`CHUNKS`] reads
//! of A wait, each for a chunk of its own. Meanwhile image B is read as in `bench read`. A file of image C is read for
//! the first time, from its own layout, which answers. At the end of a run the pack comes back, and every read of A
//! must give its bytes.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use serde_json::{Value, json};

use super::read::{SMALL, random};
use super::timing::median;
use super::{BenchTask, RUNS, name_of};
use crate::corpus::layout::CorpusLayout;
use crate::demo::drop_caches;
use crate::dimsum::Dimsum;
use crate::faults::FuseMount;
use crate::tree;

/// Reads of image A that wait.
const CHUNKS: usize = 64;
/// A slice of the default size, so that each file is one chunk.
const FILE_BYTES: usize = 256 << 10;
/// The name of the first file of image C, behind those of A: equal names have equal bytes.
const FIRST_OF_C: usize = RUNS * CHUNKS;
/// Longest wait for all reads of A to be parked; the server gives up on the source later.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn run(task: BenchTask<'_>) -> Result<()> {
    let scratch = tempfile::Builder::new().prefix("dimsum-hung-").tempdir_in("/var/tmp")?;
    let dimsum = Dimsum::new(&scratch.path().join("store"))?;
    let mut log = task.log("hung")?;
    let b = task.image("node:v1")?;
    let name = name_of(&b)?;
    let stage = HungStage::new(&dimsum, &b, scratch.path())?;
    let mut runs: Vec<(bool, Value)> = Vec::new();
    for run in 0..RUNS {
        for hangs in [false, true] {
            let mut line = stage.measure(run, hangs)?;
            line["image"] = json!(name);
            log.row(&line)?;
            runs.push((hangs, line));
        }
    }
    let mut line = summary(&runs);
    line["image"] = json!(name);
    log.shown(&line)
}

/// The three images, mounted by one server.
struct HungStage<'a> {
    dimsum: &'a Dimsum,
    a: FuseMount<'a>,
    pack_of_a: PathBuf,
    c: FuseMount<'a>,
    /// The largest file of B, all in the store, and its length.
    file: PathBuf,
    length: u64,
    _b: FuseMount<'a>,
}

impl<'a> HungStage<'a> {
    fn new(dimsum: &'a Dimsum, image: &Path, scratch: &Path) -> Result<Self> {
        let a = numbers(dimsum, scratch, "a", 0..FIRST_OF_C)?;
        let c = numbers(dimsum, scratch, "c", FIRST_OF_C..FIRST_OF_C + 2 * RUNS)?;
        let source = CorpusLayout::open(image, None)?;
        let layout = scratch.join("b");
        dimsum.ok(&["convert", &source.reference(), &format!("oci:{}:image", layout.display())])?;
        let b = FuseMount::new(dimsum, &CorpusLayout::open(&layout, None)?, &scratch.join("mount-b"))?;
        let entries = tree::from_directory(&b.path)?;
        let files = entries.iter().filter(|entry| entry.kind == 'f');
        let largest = files.max_by_key(|entry| entry.size).context("a file")?;
        Ok(Self {
            dimsum,
            a: FuseMount::new(dimsum, &a, &scratch.join("mount-a"))?,
            pack_of_a: a.layers().into_iter().next().context("a pack")?,
            c: FuseMount::new(dimsum, &c, &scratch.join("mount-c"))?,
            file: b.path.join(&largest.path),
            length: largest.size,
            _b: b,
        })
    }

    fn measure(&self, run: usize, hangs: bool) -> Result<Value> {
        let hang = hangs.then(|| Hang::new(self.dimsum, &self.a.path, &self.pack_of_a, run)).transpose()?;
        drop_caches()?;
        let (mean, p50, p99) = random(&self.file, self.length)?;
        let first = first_read(&self.c.path, FIRST_OF_C + 2 * run + usize::from(hangs))?;
        let mut line = json!({"run": run, "hung": hangs, "random_4k_mean_us": mean, "random_4k_p50_us": p50,
            "random_4k_p99_us": p99, "first_read_us": first, "threads": threads(self.dimsum)?});
        if let Some(hang) = hang {
            line["parked"] = json!(parked(self.dimsum, &self.a.path)?);
            ensure!(line["parked"] == json!(CHUNKS), "the source did not hang long enough: {line}");
            line["read right afterwards"] = json!(hang.end()?);
        }
        Ok(line)
    }
}

fn summary(runs: &[(bool, Value)]) -> Value {
    let of = |hangs: bool, field: &str| {
        median(runs.iter().filter(|(hung, _)| *hung == hangs).filter_map(|(_, line)| line[field].as_f64()).collect())
    };
    // Threads that read files of a layout stay for a while after a hang. So the server at rest is the run with the
    // fewest threads.
    let of_kind = |hangs: bool| runs.iter().filter(move |(hung, _)| *hung == hangs).map(|(_, line)| &line["threads"]);
    let all = |threads: &&Value| threads["all"].as_u64();
    let threads = json!({"without": of_kind(false).min_by_key(all), "with": of_kind(true).max_by_key(all)});
    let mut line = json!({"median of": RUNS, "hung reads": CHUNKS, "threads": threads});
    for field in ["random_4k_mean_us", "random_4k_p50_us", "random_4k_p99_us", "first_read_us"] {
        let (without, with) = (of(false, field), of(true, field));
        line[field] = json!({"without": without, "with": with, "ratio": with / without});
    }
    line
}

/// Converts a directory of files with numbers for names. Each is read once, so that it is not in the store yet.
fn numbers(dimsum: &Dimsum, scratch: &Path, name: &str, files: Range<usize>) -> Result<CorpusLayout> {
    let directory = scratch.join(format!("{name}-tree"));
    fs::create_dir(&directory)?;
    for number in files {
        fs::write(directory.join(number.to_string()), noise(number))?;
    }
    let layout = scratch.join(name);
    dimsum.ok(&["convert", &format!("dir:{}", directory.display()), &format!("oci:{}:image", layout.display())])?;
    CorpusLayout::open(&layout, None)
}

/// Microseconds that the first 4 KiB of a file take whose chunk is not in the store.
fn first_read(mount: &Path, number: usize) -> Result<f64> {
    let (mut bytes, started) = ([0; SMALL], Instant::now());
    File::open(mount.join(number.to_string()))?
        .read_exact_at(&mut bytes, 0)
        .context("the first read of a file of C")?;
    let taken = started.elapsed().as_secs_f64() * 1e6;
    ensure!(bytes[..] == noise(number)[..SMALL], "wrong bytes");
    Ok(taken)
}

/// Reads that wait for a pack which is a FIFO.
struct Hang {
    pack: PathBuf,
    readers: Vec<JoinHandle<Result<bool>>>,
}

impl Hang {
    fn new(dimsum: &Dimsum, mount: &Path, pack: &Path, run: usize) -> Result<Self> {
        let (saved, fifo) = (pack.with_extension("saved"), pack.with_extension("fifo"));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).context("mkfifo")?;
        fs::rename(pack, saved)?;
        fs::hard_link(fifo, pack)?;
        let mut hang = Self { pack: pack.to_owned(), readers: Vec::new() };
        for number in run * CHUNKS..(run + 1) * CHUNKS {
            let path = mount.join(number.to_string());
            hang.readers.push(std::thread::spawn(move || {
                let mut bytes = [0; SMALL];
                File::open(path)?.read_exact_at(&mut bytes, 0)?;
                Ok(bytes[..] == noise(number)[..SMALL])
            }));
        }
        let started = Instant::now();
        while parked(dimsum, mount)? < CHUNKS as u64 {
            ensure!(started.elapsed() < PATIENCE, "{} reads wait, not {CHUNKS}", parked(dimsum, mount)?);
        }
        Ok(hang)
    }

    /// Gives the pack back; returns how many reads then gave the right bytes.
    fn end(mut self) -> Result<usize> {
        let writer = self.give_back()?;
        let mut right = 0;
        for reader in std::mem::take(&mut self.readers) {
            let is_right = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?;
            ensure!(is_right.context("a read that had waited")?, "wrong bytes");
            right += 1;
        }
        drop(writer);
        Ok(right)
    }

    /// Puts the pack back first, so that released threads find it. A FIFO opened for reading and writing does not wait,
    /// and releases all others.
    fn give_back(&self) -> Result<File> {
        let fifo = self.pack.with_extension("fifo");
        fs::rename(self.pack.with_extension("saved"), &self.pack)?;
        let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
        let writer = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&fifo)?;
        fs::remove_file(fifo)?;
        Ok(writer)
    }
}

impl Drop for Hang {
    /// After a failure: nobody may wait for ever.
    fn drop(&mut self) {
        if !self.readers.is_empty()
            && let Err(error) = self.give_back()
        {
            eprintln!("{}: {error:#}", self.pack.display());
        }
    }
}

/// Reads of the image on `mount` that wait.
fn parked(dimsum: &Dimsum, mount: &Path) -> Result<u64> {
    dimsum.mount_info(mount)?["stats"]["parked"].as_u64().context("info has no stats.parked")
}

/// The server's threads: how many of which name, and all.
fn threads(dimsum: &Dimsum) -> Result<Value> {
    let pid = dimsum.info()?["server"]["pid"].as_u64().context("info has no server.pid")?;
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended meanwhile.
        if let Ok(name) = fs::read_to_string(task?.path().join("comm")) {
            let name = name.trim().trim_end_matches(|last: char| last == '-' || last.is_ascii_digit());
            *names.entry(name.to_owned()).or_default() += 1;
        }
    }
    Ok(json!({"all": names.values().sum::<u64>(), "by name": names}))
}

/// Bytes that do not compress and differ for each file.
fn noise(number: usize) -> Vec<u8> {
    let mut state = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(FILE_BYTES);
    while bytes.len() < FILE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}
