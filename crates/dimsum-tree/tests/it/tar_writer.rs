//! Writes tars with anything in them, sensible or not.

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
    /// Records of an extended header before the entry.
    pub(crate) records: Vec<(Vec<u8>, Vec<u8>)>,
}

fn entry(path: impl AsRef<[u8]>, flag: u8) -> Entry {
    Entry {
        path: path.as_ref().to_vec(),
        flag,
        link: Vec::new(),
        data: Vec::new(),
        mode: 0o644,
        uid: 0,
        mtime: 0,
        device: (0, 0),
        records: Vec::new(),
    }
}

pub(crate) fn file(path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Entry {
    Entry { data: data.as_ref().to_vec(), ..entry(path, b'0') }
}

pub(crate) fn dir(path: impl AsRef<[u8]>) -> Entry {
    Entry { mode: 0o755, ..entry(path, b'5') }
}

pub(crate) fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), ..entry(path, b'2') }
}

pub(crate) fn hard(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), ..entry(path, b'1') }
}

pub(crate) fn char_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Entry {
    Entry { device: (major, minor), ..entry(path, b'3') }
}

pub(crate) fn of_type(path: impl AsRef<[u8]>, flag: u8) -> Entry {
    entry(path, flag)
}

impl Entry {
    pub(crate) fn uid(self, uid: u32) -> Self {
        Self { uid, ..self }
    }

    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }

    pub(crate) fn mtime(self, mtime: u64) -> Self {
        Self { mtime, ..self }
    }

    pub(crate) fn record(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.records.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The entry's bytes, extended headers included.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut records = self.records.clone();
        if self.path.len() > 100 {
            records.push((b"path".to_vec(), self.path.clone()));
        }
        if self.link.len() > 100 {
            records.push((b"linkpath".to_vec(), self.link.clone()));
        }
        let mut bytes = Vec::new();
        if !records.is_empty() {
            let records: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
            bytes.extend(header(&entry("PaxHeaders/x", b'x'), records.len()));
            bytes.extend(padded(&records));
        }
        bytes.extend(header(self, self.data.len()));
        bytes.extend(padded(&self.data));
        bytes
    }
}

pub(crate) fn tar(entries: &[Entry]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(Entry::bytes).collect();
    bytes.extend([0; 1024]);
    bytes
}

/// One record of an extended header.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let length = (1..9).map(|digits| body + digits).find(|length| length.to_string().len() + body == *length).unwrap();
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

pub(crate) fn padded(data: &[u8]) -> Vec<u8> {
    let mut data = data.to_vec();
    data.resize(data.len().next_multiple_of(512), 0);
    data
}

/// A header that claims `size`.
pub(crate) fn header(entry: &Entry, size: usize) -> [u8; 512] {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, &entry.path[..entry.path.len().min(100)]);
    put(100, format!("{:07o}", entry.mode).as_bytes());
    put(108, format!("{:07o}", entry.uid).as_bytes());
    put(116, b"0000000");
    put(124, format!("{size:011o}").as_bytes());
    put(136, format!("{:011o}", entry.mtime).as_bytes());
    put(156, &[entry.flag]);
    put(157, &entry.link[..entry.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}", entry.device.0).as_bytes());
    put(337, format!("{:07o}", entry.device.1).as_bytes());
    seal(&mut block);
    block
}

/// Sets the checksum.
pub(crate) fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
