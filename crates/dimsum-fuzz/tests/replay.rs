//! Replays the seeds and past findings of every fuzz target.

use std::fs;
use std::path::Path;

#[test]
fn every_seed_of_every_target_keeps_the_invariants() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, target) in dimsum_fuzz::TARGETS {
        let directory = corpus.join(name);
        let seeds: Vec<_> = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        for seed in seeds {
            target(&fs::read(&seed).unwrap());
        }
    }
}
