//! Predicts the next token of a compressor of zlib's kind, or Go's.
//!
//! Both search earlier occurrences along chains of equal hashes, up to a number of steps. Both look one byte
//! further before they take a match. They differ in the hash, the shortest match, the distance they look back,
//! and the length at which the second search begins. A wrong model costs space, not truth: every token that it
//! did not predict is noted.

/// Bytes that a match reaches back.
const WINDOW: usize = 1 << 15;
/// Longest match.
const MAX_LENGTH: usize = 258;
/// zlib looks no further back than this: it wants a whole match ahead of its window.
const ZLIB_DISTANCE: usize = WINDOW - MAX_LENGTH - 4;
/// Shortest matches are not worth a longer distance.
const TOO_FAR: usize = 4096;
/// log2 of the hash tables' sizes.
const ZLIB_HASH: u32 = 15;
const GO_HASH: u32 = 17;
/// No position.
const NONE: u32 = u32::MAX;

/// Whose choices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CompressorKind {
    /// zlib, gzip, pigz at levels 1 to 3: takes the first match.
    ZlibFast,
    /// The same at levels 4 to 9.
    Zlib,
    /// Go's compress/flate at levels 4 to 9.
    Go,
}

/// A compressor and how much it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style {
    kind: CompressorKind,
    good: usize,
    lazy: usize,
    nice: usize,
    chain: usize,
}

const fn style(kind: CompressorKind, good: usize, lazy: usize, nice: usize, chain: usize) -> Style {
    Style { kind, good, lazy, nice, chain }
}

/// All that are tried, the usual ones first. A recipe names them by their numbers: new ones are added behind.
pub(super) const STYLES: [Style; 15] = [
    style(CompressorKind::Zlib, 8, 16, 128, 128),
    style(CompressorKind::Go, 8, 16, 128, 128),
    style(CompressorKind::Zlib, 32, 258, 258, 4096),
    style(CompressorKind::ZlibFast, 4, 4, 8, 4),
    style(CompressorKind::Go, 32, 258, 258, 4096),
    style(CompressorKind::Zlib, 8, 16, 32, 32),
    style(CompressorKind::Zlib, 4, 4, 16, 16),
    style(CompressorKind::Zlib, 8, 32, 128, 256),
    style(CompressorKind::Zlib, 32, 128, 258, 1024),
    style(CompressorKind::ZlibFast, 4, 5, 16, 8),
    style(CompressorKind::ZlibFast, 4, 6, 32, 32),
    style(CompressorKind::Go, 8, 16, 32, 32),
    style(CompressorKind::Go, 4, 4, 16, 16),
    style(CompressorKind::Go, 8, 32, 128, 256),
    style(CompressorKind::Go, 32, 128, 258, 1024),
];

/// The token of a DEFLATE stream for some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Literal,
    Match { length: u16, distance: u16 },
}

#[derive(Clone, Copy, Default)]
struct FoundMatch {
    length: usize,
    distance: usize,
}

/// The model, somewhere in a stream.
pub(super) struct Model {
    style: Style,
    /// The text: the window that can be referred to, and the next bytes.
    text: Vec<u8>,
    /// Where in the stream the text starts.
    base: usize,
    /// Where in the stream the next token starts.
    at: usize,
    /// Positions below are in the chains.
    inserted: usize,
    head: Vec<u32>,
    prev: Vec<u32>,
    /// What was found for the next position when the last one was looked at.
    ahead: Option<FoundMatch>,
    /// What will be that, if the token is a literal.
    next: Option<FoundMatch>,
    /// Places that were looked at.
    looked: u64,
}

impl Model {
    pub(super) fn new(style: Style) -> Self {
        let bits = if style.kind == CompressorKind::Go { GO_HASH } else { ZLIB_HASH };
        Self {
            style,
            text: Vec::new(),
            base: 0,
            at: 0,
            inserted: 0,
            head: vec![NONE; 1 << bits],
            prev: vec![NONE; WINDOW],
            ahead: None,
            next: None,
            looked: 0,
        }
    }

    /// Adds bytes that come next, and forgets those that are too far back.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let keep = self.at.saturating_sub(self.base).saturating_sub(WINDOW);
        // Not for every block: the whole window is moved.
        if keep > 4 * WINDOW {
            self.text.drain(..keep);
            self.base += keep;
        }
        self.text.extend_from_slice(bytes);
    }

    /// Bytes that have been added and not been passed.
    pub(super) fn left(&self) -> usize {
        self.base + self.text.len() - self.at
    }

    /// Returns the next bytes.
    pub(super) fn rest(&self) -> &[u8] {
        self.text.get(self.at - self.base..).unwrap_or_default()
    }

    /// Bytes that a match can reach back now.
    pub(super) fn reach(&self) -> usize {
        (self.at - self.base).min(WINDOW)
    }

    /// Says what comes next; there is at least one byte.
    pub(super) fn predict(&mut self) -> Token {
        let at = self.at;
        let least = self.least();
        let found = match self.ahead.take() {
            Some(found) => found,
            None => self.find(at, least - 1),
        };
        self.insert(at + 1);
        self.next = None;
        if found.length < least {
            return Token::Literal;
        }
        if self.style.kind != CompressorKind::ZlibFast && found.length < self.style.lazy && self.left() > 1 {
            let from = if self.style.kind == CompressorKind::Go { least - 1 } else { found.length };
            let better = self.find(at + 1, from);
            if better.length > found.length {
                self.next = Some(better);
                return Token::Literal;
            }
        }
        let [length, distance] = [found.length, found.distance].map(|value| u16::try_from(value).unwrap_or(0));
        Token::Match { length, distance }
    }

    /// Returns how many places were looked at since it was asked.
    pub(super) const fn looked(&mut self) -> u64 {
        std::mem::replace(&mut self.looked, 0)
    }

    /// Goes on behind a token, whether it was foreseen or not.
    pub(super) fn pass(&mut self, token: Token) {
        let length = match token {
            Token::Literal => 1,
            Token::Match { length, .. } => usize::from(length),
        };
        self.ahead = if token == Token::Literal { self.next.take() } else { None };
        self.next = None;
        let start = self.at;
        self.at += length;
        if self.style.kind == CompressorKind::ZlibFast && length > self.style.lazy {
            // Long matches are not looked into.
            self.insert(start + 1);
            self.inserted = self.at;
        } else {
            self.insert(self.at);
        }
    }

    /// Goes on behind bytes of which it is not known how they were looked at.
    pub(super) fn pass_stored(&mut self, count: usize) {
        (self.ahead, self.next) = (None, None);
        self.at += count;
        self.insert(self.at);
    }

    const fn least(&self) -> usize {
        if matches!(self.style.kind, CompressorKind::Go) { 4 } else { 3 }
    }

    fn hash(&self, at: usize) -> Option<usize> {
        let bytes = self.text.get(at - self.base..)?;
        match self.style.kind {
            CompressorKind::Go => {
                let word = u32::from_be_bytes(*bytes.first_chunk::<4>()?);
                Some((word.wrapping_mul(0x1e35_a7bd) >> (32 - GO_HASH)) as usize)
            }
            _ => {
                let &[a, b, c] = bytes.first_chunk::<3>()?;
                Some((usize::from(a) << 10 ^ usize::from(b) << 5 ^ usize::from(c)) & ((1 << ZLIB_HASH) - 1))
            }
        }
    }

    /// Puts positions up to `end` into the chains.
    fn insert(&mut self, end: usize) {
        while self.inserted < end {
            let at = self.inserted;
            if let Some(hash) = self.hash(at)
                && let (Some(head), Some(prev)) = (self.head.get_mut(hash), self.prev.get_mut(at % WINDOW))
            {
                *prev = *head;
                *head = u32::try_from(at).unwrap_or(NONE);
            } else {
                // Too near to the end of what is known: later, when there is more.
                break;
            }
            self.inserted += 1;
        }
    }

    /// Looks for a match at `at` that is longer than `length`.
    fn find(&mut self, at: usize, length: usize) -> FoundMatch {
        self.insert(at);
        let Style { kind, good, nice, chain, .. } = self.style;
        let none = FoundMatch { length, distance: 0 };
        let Some(hash) = self.hash(at) else { return none };
        let Some(ahead) = self.text.get(at - self.base..) else { return none };
        let limit = ahead.len().min(MAX_LENGTH);
        let ahead = ahead.get(..limit).unwrap_or_default();
        let nice = nice.min(limit);
        let farthest = if kind == CompressorKind::Go { WINDOW } else { ZLIB_DISTANCE };
        let mut steps = if length >= good { chain >> 2 } else { chain };
        let (mut best, mut candidate) = (none, self.head.get(hash).copied().unwrap_or(NONE));
        while steps > 0 && candidate != NONE {
            self.looked += 1;
            let there = candidate as usize;
            // The chain may lead to what was overwritten since.
            let Some(distance) = at.checked_sub(there).filter(|&distance| distance > 0 && distance <= farthest) else {
                break;
            };
            if there < self.base {
                break;
            }
            let from = self.text.get(there - self.base..).unwrap_or_default();
            if from.get(best.length) == ahead.get(best.length) {
                let same = same(from, ahead);
                let worth = kind != CompressorKind::Go || same > 4 || distance <= TOO_FAR;
                if same > best.length && worth {
                    best = FoundMatch { length: same, distance };
                    if same >= nice {
                        break;
                    }
                }
            }
            let next = self.prev.get(there % WINDOW).copied().unwrap_or(NONE);
            if next != NONE && next as usize >= there {
                break;
            }
            candidate = next;
            steps -= 1;
        }
        if kind == CompressorKind::Zlib && best.length == 3 && best.distance > TOO_FAR {
            return FoundMatch { length: 2, distance: 0 };
        }
        best
    }
}

/// Counts equal bytes at the start, eight at a time.
fn same(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut count = 0;
    for (a, b) in words {
        let different = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if different != 0 {
            return count + different.trailing_zeros() as usize / 8;
        }
        count += 8;
    }
    let rest = a.get(count..).unwrap_or_default().iter().zip(b.get(count..).unwrap_or_default());
    count + rest.take_while(|(a, b)| a == b).count()
}
