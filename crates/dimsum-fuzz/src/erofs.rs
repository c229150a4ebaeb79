//! EROFS images.

use dimsum_erofs::{Bounds, ErofsImage, ErofsInode, ImageKind, MetaRead, OutOfRange, validate};

/// Inodes visited by the reader, and entries read of each directory. These are more than the seeds have. A graph with
/// cycles ends, and soon enough for a fuzzer to get on (with 2000 it tried 10 images a second).
const MAX_VISITS: usize = 128;
/// Bytes of an image: one block more than the largest seed needs.
const MAX_IMAGE: usize = 1 << 20;

#[derive(Debug)]
struct ImageBytes<'a>(&'a [u8]);

impl MetaRead for ImageBytes<'_> {
    type Error = OutOfRange;

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), OutOfRange> {
        let start = usize::try_from(offset).map_err(|_| OutOfRange)?;
        let end = start.checked_add(buf.len()).ok_or(OutOfRange)?;
        buf.copy_from_slice(self.0.get(start..end).ok_or(OutOfRange)?);
        Ok(())
    }
}

/// The reader on bytes that nobody validated: no panic, every loop ends.
pub fn erofs_reader(data: &[u8]) {
    if data.len() > MAX_IMAGE {
        return;
    }
    let Ok(image) = ErofsImage::open(ImageBytes(data)) else { return };
    let Ok(root) = image.root() else { return };
    let mut pending = vec![root];
    let mut visits = 0;
    while let Some(inode) = pending.pop() {
        visits += 1;
        if visits > MAX_VISITS {
            return;
        }
        visit(&image, &inode, &mut pending);
    }
}

fn visit<'a>(image: &ErofsImage<ImageBytes<'a>>, inode: &ErofsInode, pending: &mut Vec<ErofsInode>) {
    let _ = image.xattrs(inode).is_ok();
    let _ = image.xattr(inode, b"user.x").is_ok();
    let _ = image.read_link(inode).is_ok();
    let _ = image.lookup(inode, b"name").is_ok();
    for offset in [0, 1, 4096, 262_144, u64::MAX] {
        let _ = image.map(inode, offset).is_ok();
        let _ = image.next_data(inode, offset).is_ok();
        let _ = image.next_hole(inode, offset).is_ok();
    }
    let Ok(mut entries) = image.read_dir(inode, 0) else { return };
    for _ in 0..MAX_VISITS {
        let Ok(Some(entry)) = entries.next_entry() else { return };
        if let Ok(child) = image.inode(entry.nid)
            && pending.len() < MAX_VISITS
        {
            pending.push(child);
        }
    }
}

/// The validator: no panic; what it accepts the reader can walk without an error.
pub fn erofs_validator(data: &[u8]) {
    if data.len() > MAX_IMAGE {
        return;
    }
    let blocks = u32::try_from(data.len() / 4096).unwrap_or(u32::MAX);
    for (devices, kind) in [(&[1000_u32, 7][..], ImageKind::Image), (&[][..], ImageKind::Layer)] {
        let bounds = Bounds { meta_blocks: blocks, devices, kind };
        if validate(&ImageBytes(data), bounds).is_ok() {
            walk_accepted(data);
        }
    }
}

fn walk_accepted(data: &[u8]) {
    let image = ErofsImage::open(ImageBytes(data)).expect("the validator accepted the superblock");
    let mut pending = vec![image.root().expect("the validator accepted the root")];
    while let Some(inode) = pending.pop() {
        image.xattrs(&inode).expect("the validator accepted the attributes");
        if let Ok(mut entries) = image.read_dir(&inode, 0) {
            while let Some(entry) = entries.next_entry().expect("the validator accepted the directory") {
                if entry.name != b"." && entry.name != b".." {
                    pending.push(image.inode(entry.nid).expect("the validator accepted the inode"));
                }
            }
        }
    }
}
