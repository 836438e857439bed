//! Large buffers that are held only while there is something in them.

use std::cell::RefCell;
use std::rc::Rc;

const BUFFER_BYTES: usize = 64 * 1024;
const MAX_SPARE: usize = 64;

/// One thread's spare buffers, the last used one first because it is still in the cache.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    spare: RefCell<Vec<Vec<u8>>>,
}

impl BufferPool {
    /// Takes an empty buffer out.
    pub(crate) fn take(self: &Rc<Self>) -> Buffer {
        let bytes = self.spare.borrow_mut().pop().unwrap_or_else(|| vec![0; BUFFER_BYTES]);
        Buffer { bytes, start: 0, end: 0, pool: Rc::clone(self) }
    }
}

/// A buffer that is filled at its end and emptied at its start, and goes back to its pool by itself.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    pool: Rc<BufferPool>,
}

impl Buffer {
    /// Returns what is in it.
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Says whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns the room behind what is in it, after moving that to the front where there is none.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Adds so many bytes that were written into the room.
    pub(crate) fn add(&mut self, length: usize) {
        self.end = (self.end + length).min(self.bytes.len());
    }

    /// Takes so many bytes away from the front.
    pub(crate) fn consume(&mut self, length: usize) {
        self.start = (self.start + length).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Puts bytes into an empty buffer.
    pub(crate) fn refill(&mut self, bytes: &[u8]) {
        self.start = 0;
        self.end = 0;
        let room = self.room();
        let length = bytes.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..length), bytes.get(..length)) {
            to.copy_from_slice(from);
        }
        self.add(length);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut spare = self.pool.spare.borrow_mut();
        if spare.len() < MAX_SPARE {
            spare.push(std::mem::take(&mut self.bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_reused_and_moved_only_when_full() {
        let pool = Rc::new(BufferPool::default());
        let mut buffer = pool.take();
        buffer.refill(b"hello world");
        buffer.consume(6);
        assert_eq!(buffer.filled(), b"world");
        assert_eq!(buffer.room().len(), BUFFER_BYTES - 11);
        let rest = buffer.room().len();
        buffer.add(rest);
        assert_eq!(buffer.room().len(), 6);
        assert!(buffer.filled().starts_with(b"world"));
        drop(buffer);
        assert!(pool.take().is_empty());
        assert_eq!(pool.spare.borrow().len(), 1);
    }
}
