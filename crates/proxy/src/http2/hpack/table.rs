//! The fields that were told on a connection. <https://www.rfc-editor.org/rfc/rfc7541#section-2.3.2>

use std::collections::VecDeque;

/// What a field counts beside its name and value. <https://www.rfc-editor.org/rfc/rfc7541#section-4.1>
const OVERHEAD: usize = 32;

/// The dynamic table of one direction. The field that came last stands at 0.
#[derive(Debug)]
pub(super) struct Table {
    entries: VecDeque<Entry>,
    size: usize,
    limit: usize,
    /// How many fields have ever been put in.
    inserted: u64,
}

#[derive(Debug)]
struct Entry {
    /// The name, and behind it the value.
    text: Box<[u8]>,
    name: usize,
}

impl Table {
    /// Makes an empty one.
    pub(super) fn new(limit: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, limit, inserted: 0 }
    }

    /// Returns name and value of a field.
    pub(super) fn get(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let entry = self.entries.get(at)?;
        entry.text.split_at_checked(entry.name)
    }

    /// Returns how many fields have ever been put in; each is known by that number.
    pub(super) fn inserted(&self) -> u64 {
        self.inserted
    }

    /// Returns the size that all fields together may have.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Puts a field in front; one that is too large empties the table. The text is the name with the value behind it.
    pub(super) fn insert(&mut self, text: &[u8], name: usize) {
        let size = text.len() + OVERHEAD;
        self.shrink_to(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.entries.push_front(Entry { text: text.into(), name });
            self.size += size;
            self.inserted += 1;
        }
    }

    /// Changes the limit.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.shrink_to(limit);
    }

    fn shrink_to(&mut self, limit: usize) {
        while self.size > limit {
            let Some(last) = self.entries.pop_back() else { return };
            self.size -= last.text.len() + OVERHEAD;
        }
    }

    /// Returns the size and all fields, for comparison with what an RFC says.
    #[cfg(test)]
    pub(super) fn content(&self) -> (usize, Vec<(String, String)>) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields = (0..self.entries.len()).map(|at| self.get(at).unwrap());
        (self.size, fields.map(|(name, value)| (text(name), text(value))).collect())
    }
}
