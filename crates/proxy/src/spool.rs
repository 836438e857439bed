//! A body that is held back: in memory up to a limit, the rest in a file without a name.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::task::spawn_blocking;

/// How much is written to the file, or read from it, at once.
const BLOCK_BYTES: usize = 256 * 1024;

/// A body cannot be held back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the body is longer than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the body cannot be kept in a file")]
    File { source: io::Error },
    #[error("all bodies together have {limit} bytes in files, which is as much as they may have")]
    Full { limit: u64 },
}

/// How much of a disk all bodies together may take.
#[derive(Debug)]
pub(crate) struct SpillBudget {
    limit: u64,
    used: AtomicU64,
}

impl SpillBudget {
    /// Makes one of which nothing is used.
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Returns how much may be used, and how much is.
    pub(crate) fn limit_and_use(&self) -> (u64, u64) {
        (self.limit, self.used.load(Ordering::Relaxed))
    }

    fn take(&self, bytes: u64) -> Result<(), SpoolError> {
        let taken = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.limit);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken) {
            Ok(_) => Ok(()),
            Err(_) => Err(SpoolError::Full { limit: self.limit }),
        }
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// How much is held back, and where.
#[derive(Debug, Clone)]
pub(crate) struct SpoolLimits {
    pub(crate) memory: usize,
    /// The longest body; none for no limit.
    pub(crate) total: Option<u64>,
    /// Where the file is made.
    pub(crate) folder: Arc<Path>,
    /// What it shares with all others.
    pub(crate) budget: Arc<SpillBudget>,
}

/// A body that is filled and then read, as often as needed.
#[derive(Debug)]
pub(crate) struct Spool {
    limits: SpoolLimits,
    memory: Vec<u8>,
    /// What is to be written to the file next.
    block: Vec<u8>,
    file: Option<File>,
    length: u64,
    /// How much of the budget it has.
    spilled: u64,
    /// How much of the file is still to be read.
    left: u64,
}

impl Spool {
    /// Makes an empty one.
    pub(crate) fn new(limits: SpoolLimits) -> Self {
        Self { limits, memory: Vec::new(), block: Vec::new(), file: None, length: 0, spilled: 0, left: 0 }
    }

    /// Adds a piece.
    pub(crate) async fn push(&mut self, data: &[u8]) -> Result<(), SpoolError> {
        self.length += data.len() as u64;
        if let Some(limit) = self.limits.total.filter(|limit| self.length > *limit) {
            return Err(SpoolError::TooLarge { limit });
        }
        let room = self.limits.memory.saturating_sub(self.memory.len()).min(data.len());
        let (first, rest) = data.split_at_checked(room).unwrap_or((data, &[]));
        self.memory.extend_from_slice(first);
        self.block.extend_from_slice(rest);
        if self.block.len() >= BLOCK_BYTES { self.write_block().await } else { Ok(()) }
    }

    /// Gets ready to be read from the beginning.
    pub(crate) async fn rewind(&mut self) -> Result<(), SpoolError> {
        if !self.block.is_empty() {
            self.write_block().await?;
        }
        self.left = self.length.saturating_sub(self.memory.len() as u64);
        match &mut self.file {
            Some(file) => {
                file.seek(SeekFrom::Start(0)).map(drop).map_err(|source| SpoolError::File { source })
            }
            None => Ok(()),
        }
    }

    /// Returns the part that is in memory, which comes first.
    pub(crate) fn memory(&self) -> &[u8] {
        &self.memory
    }

    /// Reads the next piece of the part that is in the file; empty at its end.
    pub(crate) async fn next_block(&mut self) -> Result<Vec<u8>, SpoolError> {
        let Some(mut file) = self.file.take_if(|_| self.left > 0) else { return Ok(Vec::new()) };
        let read = spawn_blocking(move || {
            let mut block = vec![0; BLOCK_BYTES];
            let length = file.read(&mut block)?;
            block.truncate(length);
            Ok((file, block))
        });
        let (file, block) = finish(read.await)?;
        self.file = Some(file);
        self.left = if block.is_empty() { 0 } else { self.left.saturating_sub(block.len() as u64) };
        Ok(block)
    }

    async fn write_block(&mut self) -> Result<(), SpoolError> {
        let length = self.block.len() as u64;
        self.limits.budget.take(length)?;
        self.spilled += length;
        let (block, file, folder) =
            (std::mem::take(&mut self.block), self.file.take(), Arc::clone(&self.limits.folder));
        // A disk may be slow, and this thread serves others.
        let written = spawn_blocking(move || {
            let mut file = match file {
                Some(file) => file,
                None => tempfile::tempfile_in(folder)?,
            };
            file.write_all(&block)?;
            Ok(file)
        });
        self.file = Some(finish(written.await)?);
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.limits.budget.give_back(self.spilled);
    }
}

fn finish<T>(result: Result<io::Result<T>, tokio::task::JoinError>) -> Result<T, SpoolError> {
    let result = result.unwrap_or_else(|error| Err(io::Error::other(error)));
    result.map_err(|source| SpoolError::File { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(folder: &Path, memory: usize, total: Option<u64>) -> SpoolLimits {
        SpoolLimits { memory, total, folder: folder.into(), budget: Arc::new(SpillBudget::new(u64::MAX)) }
    }

    async fn read(spool: &mut Spool) -> Vec<u8> {
        spool.rewind().await.unwrap();
        let mut all = spool.memory().to_vec();
        loop {
            let block = spool.next_block().await.unwrap();
            if block.is_empty() {
                return all;
            }
            all.extend_from_slice(&block);
        }
    }

    // proxy-compat cases 98-102, 104.
    #[tokio::test]
    async fn bodies_come_back_whole_and_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let data: Vec<u8> = (0..700_000_u32).map(|number| (number % 251) as u8).collect();
        for memory in [0, 5, 1000, 300_000, 1_000_000] {
            for length in [0, 1, 13, 300_000, 700_000] {
                let mut spool = Spool::new(limits(folder.path(), memory, Some(length as u64)));
                for piece in data[..length].chunks(64_000) {
                    spool.push(piece).await.unwrap();
                }
                assert_eq!(read(&mut spool).await, data[..length], "{memory} {length}");
                assert_eq!(read(&mut spool).await, data[..length], "a second time");
                assert!(matches!(spool.push(b"x").await, Err(SpoolError::TooLarge { .. })));
                assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
            }
        }
        let mut unlimited = Spool::new(limits(folder.path(), 0, None));
        unlimited.push(&data).await.unwrap();
        assert_eq!(read(&mut unlimited).await, data);
    }

    #[tokio::test]
    async fn all_bodies_together_have_a_budget_that_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let budget = Arc::new(SpillBudget::new(1_000_000));
        let limits = SpoolLimits { budget: Arc::clone(&budget), ..limits(folder.path(), 0, None) };
        let (mut first, mut second) = (Spool::new(limits.clone()), Spool::new(limits));
        first.push(&vec![0; 600_000]).await.unwrap();
        assert!(matches!(second.push(&vec![0; 600_000]).await, Err(SpoolError::Full { limit: 1_000_000 })));
        assert_eq!(budget.limit_and_use(), (1_000_000, 600_000));
        drop(first);
        second.push(&[0]).await.unwrap();
        second.rewind().await.unwrap();
        drop(second);
        assert_eq!(budget.limit_and_use().1, 0);
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_to_is_an_error() {
        let mut spool = Spool::new(limits("/nonexistent".as_ref(), 1, None));
        spool.push(b"abc").await.unwrap();
        assert!(matches!(spool.rewind().await, Err(SpoolError::File { .. })));
    }
}
