//! The compression of heads. <https://www.rfc-editor.org/rfc/rfc7541>

mod decoder;
mod encoder;
mod fixed;
mod huffman;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use decoder::Decoder;
pub(crate) use encoder::Encoder;

/// How large the tables of both directions get at most: what everyone starts with.
const TABLE_BYTES: usize = 4096;

/// A block that cannot be read; nothing can be read behind it either, because both sides would differ in what they know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CompressionError;
