//! Those who hash and compress slices while the layer is read.
//!
//! A frame is a function of the slice's bytes alone, so it does not matter who is first; where it will lie in the pack is
//! decided when the layer has been read.

use std::num::NonZeroUsize;
use std::thread::Scope;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use dimsum_format::codec::Compressor;
use dimsum_format::{BLOCK, Blake3};
use std::sync::{Mutex, PoisonError};

use super::SliceTable;
use crate::error::Error;
use crate::temporary::Temporary;

/// Slices waiting per thread; they and those being worked on are all slices in memory.
const WAITING_PER_JOB: usize = 2;

/// A slice to be hashed and compressed.
#[derive(Debug)]
pub(crate) struct SliceTask {
    pub(super) piece: u32,
    pub(super) bytes: Vec<u8>,
}

/// The way to the threads.
#[derive(Debug)]
pub(crate) struct Workers<'t> {
    tasks: Sender<SliceTask>,
    /// Buffers that are free again.
    buffers: Receiver<Vec<u8>>,
    pub(super) table: &'t Mutex<SliceTable>,
    failed: &'t Mutex<Option<Error>>,
}

impl<'t> Workers<'t> {
    /// Starts the threads; they end when the value is dropped.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        jobs: NonZeroUsize,
        level: i32,
        table: &'t Mutex<SliceTable>,
        frames: &'t Temporary,
        failed: &'t Mutex<Option<Error>>,
    ) -> Self
    where
        't: 'scope,
    {
        let (tasks, inbox) = bounded::<SliceTask>(jobs.get() * WAITING_PER_JOB);
        let (free, buffers) = unbounded();
        for _ in 0..jobs.get() {
            let (inbox, free) = (inbox.clone(), free.clone());
            scope.spawn(move || {
                if let Err(error) = work(&inbox, &free, level, table, frames) {
                    lock(failed).get_or_insert(error);
                }
            });
        }
        Self { tasks, buffers, table, failed }
    }

    /// Returns an empty buffer.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.buffers.try_recv().unwrap_or_default()
    }

    /// Hands a slice over; waits while all are busy.
    pub(super) fn send(&self, task: SliceTask) -> Result<(), Error> {
        if let Some(error) = lock(self.failed).take() {
            return Err(error);
        }
        // All threads have ended: only after an error, which is there by then or has been reported.
        self.tasks.send(task).map_err(|_| lock(self.failed).take().unwrap_or(Error::Cancelled))
    }
}

fn work(
    inbox: &Receiver<SliceTask>,
    free: &Sender<Vec<u8>>,
    level: i32,
    table: &Mutex<SliceTable>,
    frames: &Temporary,
) -> Result<(), Error> {
    let format = |source| Error::format("slice", source);
    let mut compressor = Compressor::new(level).map_err(format)?;
    let mut frame = Vec::new();
    for SliceTask { piece, mut bytes } in inbox {
        let length = bytes.len() as u64;
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        let digest = Blake3::of(&bytes);
        let blocks = u32::try_from(bytes.len() / BLOCK).expect("a slice is at most 5 MiB");
        let new = lock(table).resolve(piece, digest, blocks, length)?;
        if let Some(id) = new {
            frame.clear();
            compressor.compress(&bytes, &mut frame).map_err(format)?;
            let offset = frames.append(&frame)?;
            let length = u32::try_from(frame.len()).expect("a frame of 5 MiB has less than 16 MiB");
            lock(table).set_frame(id, offset, length);
        }
        bytes.clear();
        // Nobody may want it any more.
        let _unused = free.send(bytes);
    }
    Ok(())
}

/// A lock is poisoned only by a panic, which ends the conversion when its thread is joined.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
