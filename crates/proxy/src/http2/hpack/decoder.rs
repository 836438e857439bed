//! Heads as the other side has compressed them.

use super::table::Table;
use super::{CompressionError, TABLE_BYTES, fixed, huffman};

/// How much room for one field is kept from block to block.
const MAX_KEPT_BYTES: usize = 4096;

/// The receiving side of one connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    table: Table,
    /// The field that is being read: its name, and its value behind it.
    field: Vec<u8>,
}

impl Decoder {
    /// Starts with an empty table of the size that the other side may count on.
    pub(crate) fn new() -> Self {
        Self { table: Table::new(TABLE_BYTES), field: Vec::new() }
    }

    /// Reads a whole block and hands over field by field.
    ///
    /// # Errors
    /// A block that breaks the rules; nothing can be read behind it.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        mut emit: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), CompressionError> {
        let mut is_begun = false;
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                let (name, value) = lookup(&self.table, index)?;
                emit(name, value);
            } else if first & 0xe0 == 0x20 {
                let size = integer(&mut block, 5)?;
                if is_begun || size > TABLE_BYTES {
                    return Err(CompressionError);
                }
                self.table.set_limit(size);
                continue;
            } else {
                let is_indexed = first & 0x40 != 0;
                let name = self.literal(&mut block, if is_indexed { 6 } else { 4 })?;
                let (name_text, value) = self.field.split_at_checked(name).ok_or(CompressionError)?;
                emit(name_text, value);
                if is_indexed {
                    self.table.insert(&self.field, name);
                }
            }
            is_begun = true;
        }
        if self.field.capacity() > MAX_KEPT_BYTES {
            self.field = Vec::new();
        }
        Ok(())
    }

    /// Reads a field that is spelled out; returns the length of its name.
    fn literal(&mut self, block: &mut &[u8], prefix: u32) -> Result<usize, CompressionError> {
        self.field.clear();
        match integer(block, prefix)? {
            0 => text(block, &mut self.field)?,
            index => self.field.extend_from_slice(lookup(&self.table, index)?.0),
        }
        let name = self.field.len();
        text(block, &mut self.field)?;
        Ok(name)
    }

    #[cfg(test)]
    pub(super) fn table(&self) -> &Table {
        &self.table
    }
}

fn lookup(table: &Table, index: usize) -> Result<(&[u8], &[u8]), CompressionError> {
    match index.checked_sub(fixed::COUNT + 1) {
        None => fixed::field(index),
        Some(at) => table.get(at),
    }
    .ok_or(CompressionError)
}

/// Reads a number whose first bits stand in a byte with something else. <https://www.rfc-editor.org/rfc/rfc7541#section-5.1>
fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, CompressionError> {
    let (&first, mut rest) = block.split_first().ok_or(CompressionError)?;
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (&byte, behind) = rest.split_first().ok_or(CompressionError)?;
            rest = behind;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            // Four bytes are more than any number here may need.
            if shift > 21 {
                return Err(CompressionError);
            }
        }
    }
    *block = rest;
    Ok(value)
}

/// Reads a text and appends it. <https://www.rfc-editor.org/rfc/rfc7541#section-5.2>
fn text(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), CompressionError> {
    let is_coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(CompressionError)?;
    *block = rest;
    if is_coded {
        return huffman::decode(text, out);
    }
    out.extend_from_slice(text);
    Ok(())
}
