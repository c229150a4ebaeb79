//! Cuts an answer that comes in pieces into the frames that lie in it.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::fetch::feed::Feed;

/// Pieces of a range that starts and ends with a part of the blob.
#[derive(Debug)]
pub(crate) struct FrameCutter {
    /// Received and not cut yet: at most one part and one piece.
    pieces: VecDeque<Bytes>,
    held: u64,
    next: u32,
    last: u32,
}

impl FrameCutter {
    /// For parts `first` to `last` of a feed.
    pub(crate) const fn new(first: u32, last: u32) -> Self {
        Self { pieces: VecDeque::new(), held: 0, next: first, last }
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        self.held += piece.len() as u64;
        self.pieces.push_back(piece);
    }

    /// Returns the next whole part.
    pub(crate) fn next(&mut self, feed: &Feed) -> Option<(u32, Bytes)> {
        if self.next > self.last {
            return None;
        }
        let Range { start, end } = feed.part(self.next);
        let length = end.saturating_sub(start);
        if self.held < length {
            return None;
        }
        let unit = self.next;
        self.next = self.next.saturating_add(1);
        self.held -= length;
        Some((unit, self.take(usize::try_from(length).unwrap_or(usize::MAX))))
    }

    /// Takes exactly `length` bytes, which are there; without a copy if they lie in one piece.
    fn take(&mut self, length: usize) -> Bytes {
        while self.pieces.front().is_some_and(Bytes::is_empty) {
            self.pieces.pop_front();
        }
        match self.pieces.front_mut() {
            Some(front) if front.len() >= length => return front.split_to(length),
            _ => {}
        }
        let mut whole = BytesMut::with_capacity(length);
        while whole.len() < length
            && let Some(front) = self.pieces.front_mut()
        {
            let part = front.split_to(front.len().min(length - whole.len()));
            whole.extend_from_slice(&part);
            if front.is_empty() {
                self.pieces.pop_front();
            }
        }
        whole.freeze()
    }
}
