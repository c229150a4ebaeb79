//! An owner and a guest that are two processes, as a server and a command are.
//!
//! The owner is this test program once more, started for one test of it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use dimsum_store::{Store, StoreRole};

use crate::common::{Reply, TestImage, files_named, open, read};

/// Where the owner finds its store. Without it the owner's test is none.
const OWNED: &str = "DIMSUM_TEST_OWNED_STORE";
/// What the owner says when it has the image open and has read the first half of it.
const READY: &str = "the owner is ready";
/// Chunks that the owner reads.
const HALF: u32 = 10;

fn image() -> TestImage {
    TestImage::incompressible(411, 20, &[&[16; 20]])
}

#[test]
fn the_owner_of_these_tests_reads_half_of_an_image_and_waits_for_its_end() {
    let Some(directory) = std::env::var_os(OWNED) else { return };
    let image = image();
    let store = open(Path::new(&directory));
    let opened = store.image(image.manifest, vec![image.remote("registry")]).unwrap();
    assert_eq!(store.role(), StoreRole::Owner);
    (0..HALF).for_each(|chunk| drop(read(&opened, &image.chunk(0, chunk)).unwrap()));
    opened.wait_idle();
    writeln!(std::io::stdout(), "{READY}").unwrap();
    // Until the guest's process closes it or kills this one.
    drop(std::io::stdin().lines().next());
}

/// The other process.
struct OwnerProcess {
    process: Child,
    /// Open as long as the process has something to say.
    _said: BufReader<ChildStdout>,
}

impl OwnerProcess {
    fn start(directory: &Path) -> Self {
        let mut owner = Command::new(std::env::current_exe().unwrap());
        let name = "two_processes::the_owner_of_these_tests_reads_half_of_an_image_and_waits_for_its_end";
        owner.args([name, "--exact", "--nocapture"]).env(OWNED, directory);
        let mut owner = owner.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(owner.stdout.take().unwrap());
        let is_ready = said.by_ref().lines().map_while(Result::ok).any(|line| line.contains(READY));
        assert!(is_ready, "the owner did not open the image");
        Self { process: owner, _said: said }
    }

    fn close(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// Waits for a role, which passes on in the background.
fn until_owner(store: &Store) {
    let begun = std::time::Instant::now();
    while store.role() != StoreRole::Owner {
        assert!(begun.elapsed().as_secs() < 60, "the role does not pass on");
        std::thread::yield_now();
    }
}

fn devices(directory: &Path) -> Vec<Vec<u8>> {
    ["data", "state"].iter().flat_map(|name| files_named(directory, name)).map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn a_guest_in_another_process_reads_all_and_writes_when_the_owner_has_ended() {
    for is_killed in [false, true] {
        let (image, directory) = (image(), tempfile::tempdir().unwrap());
        let owner = OwnerProcess::start(directory.path());
        let guest = open(directory.path());
        let source = image.remote("registry");
        let opened = guest.image(image.manifest, vec![source.clone()]).unwrap();
        assert_eq!(guest.role(), StoreRole::Guest);
        let before = devices(directory.path());
        source.clear_log();
        assert!(image.read_all(&opened).is_empty());
        let here = image.frame(0, HALF).start;
        assert!(source.asked(image.packs[0]).iter().all(|asked| asked.start >= here), "what the owner has is read");
        assert!(devices(directory.path()) == before, "a guest writes nothing in place");
        assert_eq!((opened.stats().damage, opened.stats().repairs), (0, 0));

        if is_killed {
            owner.kill();
        } else {
            owner.close();
        }
        until_owner(&guest);
        assert!(image.read_all(&opened).is_empty());
        drop(opened);
        // What it reads as the owner it writes: now all of it is here without a source.
        let opened = guest.image(image.manifest, vec![source.clone()]).unwrap();
        assert!(image.read_all(&opened).is_empty());
        assert!(devices(directory.path()) != before);
        source.hook(|_, _, _| Reply::Away);
        drop(opened);
        let alone = guest.image(image.manifest, Vec::new()).unwrap();
        assert!(image.read_all(&alone).is_empty());
        assert!(!guest.check(None, &mut |_| {}).is_damaged());
    }
}
