//! The codings themselves, at low levels: an answer is made shorter while somebody waits for it.

use std::io::{self, Write};

use freehold_wire::Compression;

const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;
const BROTLI_QUALITY: u32 = 4;

/// How far back an encoder looks, as a power of two: 256 KB, which bounds its memory.
const WINDOW_LOG: u32 = 18;

const BROTLI_BUFFER_BYTES: usize = 4096;

/// Compresses one body.
pub(crate) struct Encoder(Kind);

enum Kind {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
}

impl Encoder {
    /// Makes an encoder.
    pub(crate) fn new(coding: Compression) -> io::Result<Self> {
        Ok(Self(match coding {
            Compression::Gzip => {
                Kind::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL)))
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(WINDOW_LOG)?;
                Kind::Zstd(encoder)
            }
            Compression::Br => Kind::Br(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BROTLI_BUFFER_BYTES,
                BROTLI_QUALITY,
                WINDOW_LOG,
            ))),
        }))
    }

    /// Takes a piece of the body in.
    pub(crate) fn push(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Kind::Gzip(encoder) => encoder.write_all(data),
            Kind::Zstd(encoder) => encoder.write_all(data),
            Kind::Br(encoder) => encoder.write_all(data),
        }
    }

    /// Makes everything that was taken in readable for the client.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Kind::Gzip(encoder) => encoder.flush(),
            Kind::Zstd(encoder) => encoder.flush(),
            Kind::Br(encoder) => encoder.flush(),
        }
    }

    /// Takes out what is ready so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        match &mut self.0 {
            Kind::Gzip(encoder) => std::mem::take(encoder.get_mut()),
            Kind::Zstd(encoder) => std::mem::take(encoder.get_mut()),
            Kind::Br(encoder) => std::mem::take(encoder.get_mut()),
        }
    }

    /// Ends the body and takes out the rest.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self.0 {
            Kind::Gzip(encoder) => encoder.finish(),
            Kind::Zstd(encoder) => encoder.finish(),
            Kind::Br(encoder) => Ok(encoder.into_inner()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn plain(coding: Compression, bytes: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        // A stream that is flushed and not ended yet is read as far as it goes.
        match coding {
            Compression::Gzip => flate2::read::GzDecoder::new(bytes).read_to_end(&mut text).ok(),
            Compression::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut text).ok(),
            Compression::Br => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut text).ok(),
        };
        text
    }

    #[test]
    fn every_coding_gives_back_what_went_in_and_each_flush_what_came_before() {
        let piece = b"the quick brown fox jumps over the lazy dog, ".repeat(40);
        for coding in Compression::ALL {
            let mut encoder = Encoder::new(coding).unwrap();
            let mut all = Vec::new();
            for number in 1..=3 {
                encoder.push(&piece).unwrap();
                encoder.flush().unwrap();
                all.extend(encoder.take());
                assert_eq!(plain(coding, &all), piece.repeat(number), "{coding:?} after {number}");
            }
            all.extend(encoder.finish().unwrap());
            assert_eq!(plain(coding, &all), piece.repeat(3));
            assert!(all.len() < piece.len() / 2, "{coding:?}: {} bytes", all.len());
        }
    }
}
