//! A blob that comes in more than one attempt.
#![expect(clippy::unwrap_used, clippy::unimplemented, reason = "tests panic")]

use std::io::{self, Cursor};
use std::ops::{ControlFlow, Range};

use bytes::Bytes;
use dimsum_format::Digest;
use dimsum_format::manifest::Blob;
use dimsum_source::{BoxFuture, PartialBlob, Source, SourceError, remove_unwritten};

/// Gives a text, and breaks off behind some bytes.
#[derive(Debug)]
struct Broken(&'static [u8], usize);

impl Source for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn read_range(&self, _blob: Digest, _range: Range<u64>) -> BoxFuture<'_, Result<Bytes, SourceError>> {
        unimplemented!()
    }

    fn open(&self, _blob: Digest) -> Result<Box<dyn io::Read + Send>, SourceError> {
        Ok(Box::new(Cursor::new(self.0.get(..self.1).unwrap())))
    }

    fn size(&self, _blob: Digest) -> Result<Option<u64>, SourceError> {
        unimplemented!()
    }
}

fn fetch(partial: &PartialBlob, size: u64, from: &dyn Source) -> (Vec<u8>, u64) {
    let mut came = Vec::new();
    let end = partial.fetch(Blob { digest: Digest::of(b""), size }, from, &mut |bytes| {
        came.extend_from_slice(bytes);
        ControlFlow::Continue(())
    });
    (came, end.unwrap())
}

#[test]
fn an_attempt_goes_on_where_the_one_before_ended() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("blob");
    let first = PartialBlob::open(&path, 6).unwrap().unwrap();
    assert_eq!(fetch(&first, 6, &Broken(b"abcdef", 2)), (b"ab".to_vec(), 2));
    // Whoever comes beside it does without, and takes nothing away.
    assert!(PartialBlob::open(&path, 6).unwrap().is_none());
    remove_unwritten(&path);
    drop(first);
    let second = PartialBlob::open(&path, 6).unwrap().unwrap();
    assert_eq!(second.found(), 2);
    let mut found = Vec::new();
    let read = second.read_found(&mut |bytes| {
        found.extend_from_slice(bytes);
        ControlFlow::Continue(())
    });
    assert_eq!((read.is_ok(), &*found), (true, &b"ab"[..]));
    assert_eq!(
        fetch(&second, 6, &Broken(b"abcdefgh", 8)),
        (b"cdefg".to_vec(), 7),
        "one byte tells that it is too long"
    );
    drop(second);
    assert_eq!(PartialBlob::open(&path, 6).unwrap().unwrap().found(), 0, "a file that is too long is wrong");
    remove_unwritten(&path);
    assert!(!path.exists());
}
