//! What a verified read costs: `cargo run --release -p dimsum-store --example read_cost [MIB]`.
//!
//! Makes an image of one device with 256 KiB chunks, fills a store from memory, and reads it with a warm page cache. It
//! reads 4 KiB at random places and 1 MiB in order, through [`Image::read`]. For comparison, it reads the same groups
//! by plain `pread`s, and hashes alone.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, reason = "a measurement")]

#[expect(dead_code, reason = "the scenarios use the rest")]
#[path = "../tests/store/common.rs"]
mod common;

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use common::{Random, TestImage, open};
use dimsum_format::group::{GROUP, chaining_value};
use dimsum_store::{Extent, Image};

/// Chunks of 256 KiB.
const CHUNK_BLOCKS: u32 = 64;
/// Reads per round; the median of [`ROUNDS`] is printed.
const READS: u64 = 20_000;
const ROUNDS: usize = 5;

fn main() {
    let mib: u32 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(256);
    let chunks = vec![CHUNK_BLOCKS; (mib * 4) as usize];
    let made = TestImage::new(1, 10, &[&chunks]);
    let directory = tempfile::tempdir().unwrap();
    let image = open(directory.path()).image(made.manifest, vec![made.source("memory")]).unwrap();
    let start = Instant::now();
    assert!(made.read_all(&image).is_empty());
    println!("cold: decode, verify and write {mib} MiB: {:.0} MiB/s", f64::from(mib) / start.elapsed().as_secs_f64());

    let id = made.maps[0].0.id().hex();
    let data = File::open(directory.path().join("devices").join(&id[..2]).join(&id).join("data")).unwrap();
    let base = made.meta_length;
    let blocks = u64::from(mib) * 256;

    let mut random = Random(2);
    print("4 KiB random, verified", READS, 4096, || {
        let at = base + random.below(blocks) * 4096;
        black_box(read(&image, at, 4096));
    });
    let mut buffer = vec![0; GROUP];
    print("  pread of the 16 KiB group alone", READS, 4096, || {
        let group = random.below(blocks / 4) * GROUP as u64;
        data.read_exact_at(black_box(&mut buffer), group).unwrap();
    });
    print("  hash of the 16 KiB group alone", READS, 4096, || {
        black_box(chaining_value(black_box(&buffer), 3, 256 << 10));
    });
    print("  plain pread of 4 KiB", READS, 4096, || {
        let at = random.below(blocks) * 4096;
        data.read_exact_at(black_box(&mut buffer[..4096]), at).unwrap();
    });

    let mut next = 0;
    let mib = u64::from(mib);
    print("1 MiB in order, verified", mib, 1 << 20, || {
        black_box(read(&image, base + (next % mib) * (1 << 20), 1 << 20));
        next += 1;
    });
    let mut buffer = vec![0; 1 << 20];
    print("  plain pread of 1 MiB", mib, 1 << 20, || {
        data.read_exact_at(black_box(&mut buffer), (next % mib) * (1 << 20)).unwrap();
        next += 1;
    });
    print("  hash of 1 MiB by groups alone", mib, 1 << 20, || {
        for (group, bytes) in (0..).zip(buffer.chunks(GROUP)) {
            black_box(chaining_value(bytes, group % 16, 256 << 10));
        }
    });
    let stats = image.stats();
    assert_eq!((stats.read_errors, stats.damage), (0, 0));
}

/// Reads as a driver does; a warm read is answered at once.
fn read(image: &Image, at: u64, length: u64) -> usize {
    let (give, take) = std::sync::mpsc::sync_channel(1);
    image.read(&[Extent::Flat { range: at..at + length }], move |result| give.send(result.unwrap()).unwrap());
    take.try_recv().unwrap().len()
}

fn print(what: &str, count: u64, bytes: u64, mut one: impl FnMut()) {
    let mut rounds: Vec<(Duration, Duration)> = (0..ROUNDS)
        .map(|_| {
            let (start, cpu) = (Instant::now(), cpu_time());
            (0..count).for_each(|_| one());
            (cpu_time() - cpu, start.elapsed())
        })
        .collect();
    rounds.sort();
    let (cpu, wall) = rounds[ROUNDS / 2];
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    let rate = bytes as f64 / each(cpu) * 1e6 / f64::from(1 << 20);
    println!(
        "{what}: {:.2} us of CPU ({:.0} /s, {rate:.0} MiB/s), {:.2} us by the clock",
        each(cpu),
        1e6 / each(cpu),
        each(wall)
    );
}

/// Time that this thread ran: the machine may be busy with other things.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}
