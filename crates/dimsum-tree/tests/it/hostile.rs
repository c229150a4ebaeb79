//! Tars that want to harm: each is refused with the entry's name, or means something harmless.

use dimsum_tree::{ContentId, ContentSink, NullSink, Policy, read_layer};

use crate::memory_sink::MemorySink;
use crate::tar_writer::{Entry, char_device, dir, file, hard, header, of_type, padded, record, seal, symlink, tar};

fn read(bytes: &[u8]) -> Result<String, String> {
    let mut sink = MemorySink::default();
    match read_layer(bytes, None, &mut sink, Policy::default()) {
        Ok(layer) => Ok(sink.short(&layer.tree)),
        Err(error) => Err(error.to_string()),
    }
}

fn long(byte: u8, length: usize) -> Vec<u8> {
    vec![byte; length]
}

#[test]
fn names_that_could_lead_out_are_refused_and_absolute_ones_are_relative() {
    let accepted: [(&[Entry], &str); 6] = [
        (&[file("/abs/f", "")], "abs/ abs/f="),
        (&[file("./a//b/./c", "")], "a/ a/b/ a/b/c="),
        (&[dir("./"), file("...", "")], "...="),
        (&[symlink("out", "../../.."), file("out/f", "in")], "f=in out->../../.."),
        (&[symlink("etc", "/real"), file("etc/f", "in")], "etc->/real real/ real/f=in"),
        (&[file("dup", "1"), file("./dup", "2"), file("/dup", "3")], "dup=3"),
    ];
    for (entries, tree) in accepted {
        assert_eq!(read(&tar(entries)).as_deref(), Ok(tree));
    }
}

#[test]
fn every_refusal_names_the_entry() {
    let deep = [b"d/".repeat(1100), b"f".to_vec()].concat();
    let refused: Vec<(Vec<Entry>, &str, &str)> = vec![
        (vec![file("../f", "")], "../f", "`..`"),
        (vec![file("a/../f", "")], "a/../f", "`..`"),
        (vec![dir("a/..")], "a/..", "`..`"),
        (vec![file("", "")], "/", "root"),
        (vec![symlink("/", "x")], "/", "root"),
        (vec![file("f", "").record("path", "a\0b")], r"a\x00b", "file name"),
        (vec![file(long(b'n', 256), "")], "nnnn", "255"),
        (vec![file([long(b'p', 250), long(b'/', 1)].concat().repeat(20), "")], "pppp", "4095"),
        (vec![file(deep, "")], "d/d/", "1024"),
        (vec![symlink("s", "s"), file("s/f", "")], "s/f", "40"),
        (vec![symlink("s", long(b't', 4096))], "s", "4095"),
        (vec![symlink("s", "")], "s", "target"),
        (vec![hard("l", "l")], "l", "not there"),
        (vec![char_device("c", 0, 0)], "c", "0:0"),
        (vec![char_device("c", 4096, 0)], "c", "12"),
        (vec![file("f", "").record("SCHILY.xattr.trusted.overlay.redirect", "/x")], "f", "overlayfs"),
        (vec![file("f", "").record([&b"SCHILY.xattr.user."[..], &long(b'x', 251)].concat(), "")], "f", "name"),
        (vec![file("f", "").record("SCHILY.xattr.user.x", long(b'v', 65_536))], "f", "65535"),
        (vec![file("f", "").record("uid", "4294967295")], "f", "id"),
        (vec![file("f", "").record("uid", "-1")], "f", "uid"),
        (vec![file("f", "").record("mtime", "never")], "f", "mtime"),
        (vec![file("f", "").record("size", "99999999999999")], "f", "limit"),
        (vec![file("f", "").record("size", "99999999999999999999999")], "f", "size"),
        (vec![file("f", "short").record("size", "100000")], "f", "too early"),
        (vec![of_type("v", b'V')], "v", "type V"),
        (vec![of_type("m", b'M')], "m", "type M"),
        (
            vec![
                file("f", "xyz")
                    .record("GNU.sparse.major", "1")
                    .record("GNU.sparse.minor", "0")
                    .record("GNU.sparse.realsize", "3"),
            ],
            "f",
            "sparse",
        ),
        (vec![file("f", "xy").record("GNU.sparse.map", "0,1,0,1").record("GNU.sparse.size", "9")], "f", "sparse"),
        (vec![file("f", "xy").record("GNU.sparse.map", "8,2").record("GNU.sparse.size", "9")], "f", "sparse"),
        (vec![file("f", "xy").record("GNU.sparse.map", "0,1").record("GNU.sparse.size", "9")], "f", "sparse"),
        (vec![file("f", "xy").record("GNU.sparse.map", "0,2")], "f", "sparse"),
        (vec![file("f", "xy").record("GNU.sparse.major", "2").record("GNU.sparse.minor", "0")], "f", "sparse"),
        (
            vec![
                file("f", "1\n0\n18446744073709551615\n")
                    .record("GNU.sparse.major", "1")
                    .record("GNU.sparse.minor", "0")
                    .record("GNU.sparse.realsize", "3"),
            ],
            "f",
            "sparse",
        ),
        (
            vec![
                file("f", "9999999\n")
                    .record("GNU.sparse.major", "1")
                    .record("GNU.sparse.minor", "0")
                    .record("GNU.sparse.realsize", "3"),
            ],
            "f",
            "pieces",
        ),
    ];
    for (entries, name, word) in refused {
        let message = read(&tar(&entries)).expect_err(name);
        assert!(message.starts_with(name), "{name}: {message}");
        assert!(message.contains(&word.replace('`', "")), "{word}: {message}");
    }
}

#[test]
fn broken_archives_are_refused_with_the_place() {
    let good = tar(&[file("f", "content"), file("g", long(b'x', 700))]);
    assert!(read(&good).is_ok());
    let mut flipped = good.clone();
    flipped[3] ^= 1;
    let pending = |flag| [&header(&of_type("x", flag), 6)[..], &padded(b"6 a=b\n")].concat();
    let broken: Vec<(Vec<u8>, &str)> = vec![
        (flipped, "checksum"),
        (good[..100].to_vec(), "too early"),
        (good[..1024 + 100].to_vec(), "too early"),
        (good[..1024 + 512 + 600].to_vec(), "too early"),
        ([&[0; 512][..], &good].concat(), "one block of zeros"),
        ([pending(b'x'), pending(b'x'), good.clone()].concat(), "two extended headers"),
        ([pending(b'L'), pending(b'L'), good.clone()].concat(), "two extended headers"),
        ([pending(b'x'), vec![0; 1024]].concat(), "without an entry"),
        (pending(b'K'), "without an entry"),
        ([&header(&of_type("x", b'x'), 2 << 20)[..], &good].concat(), "1048576"),
        ([&header(&of_type("x", b'L'), 1 << 20)[..], &[b'a'; 512]].concat(), "too early"),
        ([&header(&of_type("g", b'g'), 17)[..], &padded(&record(b"path", b"/etc/x"))].concat(), "global"),
        (b"not a tar at all".repeat(64), "checksum"),
    ];
    for (bytes, word) in broken {
        let message = read(&bytes).expect_err(word);
        assert!(message.contains(word), "{word}: {message}");
    }
    // Writers may leave out the end, and the zeros behind the last content.
    assert!(read(&good[..good.len() - 1024]).is_ok());
    assert!(read(&good[..512 + 7]).is_ok());
    assert_eq!(read(b"").as_deref(), Ok(""));
}

#[test]
fn claims_cost_no_memory_before_the_bytes_are_there() {
    // A hole of 16 TiB is one call, a missing body an error; the sink of this test would notice memory only by dying.
    let huge = file("h", "").record("GNU.sparse.map", "0,0").record("GNU.sparse.size", (1u64 << 44).to_string());
    read_layer(&tar(&[huge])[..], None, &mut NullSink::default(), Policy::default()).unwrap();
    let mut block = header(&file("f", ""), 0);
    block[124..136].copy_from_slice(b"\x80\0\0\0\0\0\x0f\xff\xff\xff\xff\xff");
    seal(&mut block);
    let error = read_layer(&block[..], None, &mut NullSink::default(), Policy::default()).unwrap_err();
    assert_eq!(error.to_string(), "f: the archive ends too early");
}

#[test]
fn the_stream_is_read_to_its_end() {
    struct Counted<'a>(&'a [u8], usize);
    impl std::io::Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1 += count;
            Ok(count)
        }
    }
    let bytes = [tar(&[file("f", "x")]), vec![b'j'; 300_000]].concat();
    let mut counted = Counted(&bytes, 0);
    read_layer(&mut counted, None, &mut NullSink::default(), Policy::default()).unwrap();
    assert_eq!(counted.1, bytes.len());
}

#[test]
fn mutated_archives_never_panic() {
    let seeds = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/tar");
    let mut seeds: Vec<Vec<u8>> =
        std::fs::read_dir(seeds).unwrap().map(|seed| std::fs::read(seed.unwrap().path()).unwrap()).collect();
    seeds.sort_unstable();
    // A linear congruential generator: the same mutations at every run.
    let mut state = 0x5eed_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    let mut refused = 0;
    for round in 0..6_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        let blocks = (bytes.len() / 512).min(12);
        for _ in 0..=random(4) {
            let at = random((blocks * 512).max(1));
            bytes[at] = [0, 0x20, 0x2f, 0x2e, 0x30, 0x37, 0x80, 0xff, b'x', b'g', b'L', b'S'][random(12)];
        }
        // With right checksums mutations get past the first look; what is no header is not harmed by one more mutation.
        for at in (0..blocks).map(|block| block * 512) {
            let block: &mut [u8; 512] = (&mut bytes[at..at + 512]).try_into().unwrap();
            if block[257..262] == *b"ustar" {
                seal(block);
            }
        }
        let mut sink = MemorySink::default();
        match read_layer(&bytes[..], None, &mut LimitedSink(&mut sink), Policy::default()) {
            Ok(layer) => drop(sink.lines(&layer.tree)),
            Err(error) => refused += usize::from(!error.to_string().is_empty()),
        }
    }
    assert!((600..5_400).contains(&refused), "mutations reach both ends: {refused}");
}

/// Refuses large files, which sparse maps can claim and [`MemorySink`] would store.
struct LimitedSink<'s>(&'s mut MemorySink);

impl ContentSink for LimitedSink<'_> {
    type Error = &'static str;

    fn begin(&mut self, size: u64) -> Result<(), Self::Error> {
        if size > 1 << 20 {
            return Err("too large for a test");
        }
        let Ok(()) = self.0.begin(size);
        Ok(())
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        let Ok(()) = self.0.data(bytes);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), Self::Error> {
        let Ok(()) = self.0.hole(length);
        Ok(())
    }

    fn end(&mut self) -> Result<ContentId, Self::Error> {
        let Ok(id) = self.0.end();
        Ok(id)
    }
}
