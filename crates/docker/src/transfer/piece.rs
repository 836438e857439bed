//! The pieces in which an image waits on the machine of its engine.

use std::io::Write;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::scratch_image::hex;

/// The size of a piece of a layer. What a broken connection costs is at most one of them; each costs the host a few
/// short processes.
pub(super) const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// A part of an image's archive. Targets share it.
pub(super) struct Piece {
    pub(super) name: String,
    pub(super) content: Bytes,
    /// Whether a layer ends with it.
    pub(super) ends_layer: bool,
    digest: OnceLock<String>,
    squeezed: OnceCell<Squeezed>,
}

/// A piece that gzip was tried on.
#[derive(Debug, Clone)]
pub(super) struct Squeezed {
    pub(super) bytes: Bytes,
    pub(super) took: Duration,
}

impl Piece {
    /// Makes the part of a layer.
    pub(super) fn of_layer(diff_id: &str, index: usize, content: Bytes, ends_layer: bool) -> Self {
        let layer = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
        Self {
            name: format!("{layer}.{index:06}"),
            content,
            ends_layer,
            digest: OnceLock::new(),
            squeezed: OnceCell::new(),
        }
    }

    /// Makes what stands between layers.
    pub(super) fn filler(content: Bytes) -> Self {
        let digest = hex(&Sha256::digest(&content));
        Self {
            name: format!("f.{digest}"),
            content,
            ends_layer: false,
            digest: OnceLock::from(digest),
            squeezed: OnceCell::new(),
        }
    }

    pub(super) fn digest(&self) -> &str {
        self.digest.get_or_init(|| hex(&Sha256::digest(&self.content)))
    }

    /// Compresses it, once for all targets.
    pub(super) async fn squeezed(&self) -> &Squeezed {
        self.squeezed
            .get_or_init(|| async {
                let content = self.content.clone();
                let begun = Instant::now();
                let work = tokio::task::spawn_blocking(move || gzip(&content).unwrap_or(content));
                let bytes = work.await.unwrap_or_else(|_| self.content.clone());
                Squeezed { bytes, took: begun.elapsed() }
            })
            .await
    }
}

fn gzip(content: &Bytes) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 2), Compression::fast());
    encoder.write_all(content)?;
    Ok(Bytes::from(encoder.finish()?))
}

/// Cuts the content of one layer into pieces as it comes.
pub(super) struct Cutter {
    diff_id: String,
    left: u64,
    index: usize,
    buffer: BytesMut,
}

impl Cutter {
    pub(super) fn new(diff_id: String, size: u64) -> Self {
        Self { diff_id, left: size, index: 0, buffer: BytesMut::new() }
    }

    /// Takes raw bytes of the layer's file in. Returns the pieces that are complete, and what is left: padding.
    pub(super) fn take(&mut self, mut raw: Bytes) -> (Vec<Piece>, Bytes) {
        let mut pieces = Vec::new();
        while self.left > 0 && !raw.is_empty() {
            if self.buffer.is_empty() {
                let expected = usize::try_from(self.left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
                self.buffer.reserve(expected);
            }
            let room = (PIECE_BYTES - self.buffer.len()).min(raw.len());
            let count = usize::try_from(self.left).unwrap_or(room).min(room);
            self.buffer.extend_from_slice(&raw.split_to(count));
            self.left -= count as u64;
            if self.left == 0 || self.buffer.len() == PIECE_BYTES {
                let content = std::mem::take(&mut self.buffer).freeze();
                pieces.push(Piece::of_layer(&self.diff_id, self.index, content, self.left == 0));
                self.index += 1;
            }
        }
        (pieces, raw)
    }
}

/// Decides for one connection whether compressing pays, by what was measured on it.
#[derive(Debug, Default)]
pub(super) struct Squeezing {
    /// What gzip made of the last piece that it was tried on: bytes in a second, and the share that was left.
    last: Option<(f64, f64)>,
    /// How many pieces went as they are since.
    since: usize,
}

/// Below this share of the size compressing is worth the trouble.
const WORTH: f64 = 0.9;

/// After that many pieces compressing is tried again: a layer may hold programs after pictures.
const TRY_AGAIN: usize = 8;

/// A piece of less tells nothing of the link, nor of how well a layer compresses.
pub const TELLING_BYTES: usize = 256 * 1024;

/// No processor compresses faster, so a faster link needs no try.
const FASTEST: u64 = 150_000_000;

impl Squeezing {
    /// Says whether the next piece should be compressed, given how many bytes in a second the link takes.
    pub(super) fn pays(&mut self, link: Option<u64>) -> bool {
        // Until the first piece is confirmed the link's rate is not known.
        let Some(link) = link.filter(|link| *link < FASTEST) else { return false };
        let Some((speed, share)) = self.last else { return true };
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let link = link as f64;
        // Compressing and sending overlap: the slower of the two sets the pace.
        let pace = speed.min(link / share.max(0.01));
        if share < WORTH && pace > link * 1.1 {
            return true;
        }
        self.since += 1;
        self.since > TRY_AGAIN
    }

    /// Takes in what gzip made of a piece. Returns whether it is worth sending so.
    pub(super) fn learn(&mut self, size: usize, squeezed: &Squeezed) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "sizes of pieces are small")]
        let (size, left) = (size.max(1) as f64, squeezed.bytes.len() as f64);
        self.last = Some((size / squeezed.took.as_secs_f64().max(0.000_1), left / size));
        self.since = 0;
        left < size * WORTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_cut_at_the_same_places_however_they_come() {
        let size = PIECE_BYTES * 2 + 100;
        let content: Vec<u8> = (0..size + 412).map(|at| (at % 251) as u8).collect();
        for step in [1000, PIECE_BYTES - 1, PIECE_BYTES, size + 412] {
            let mut cutter = Cutter::new("sha256:ab".to_owned(), size as u64);
            let (mut pieces, mut padding) = (Vec::new(), 0);
            for raw in content.chunks(step) {
                let (more, rest) = cutter.take(Bytes::copy_from_slice(raw));
                pieces.extend(more);
                padding += rest.len();
            }
            let names: Vec<&str> = pieces.iter().map(|piece| piece.name.as_str()).collect();
            assert_eq!(names, ["ab.000000", "ab.000001", "ab.000002"]);
            assert_eq!(pieces.iter().map(|piece| piece.ends_layer).collect::<Vec<_>>(), [false, false, true]);
            let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.content.to_vec()).collect();
            assert_eq!((joined.as_slice(), padding), (&content[..size], 412));
        }
    }

    #[test]
    fn compressing_pays_on_slow_links_only_and_never_for_what_stays_large() {
        let squeezed =
            |share: usize| Squeezed { bytes: Bytes::from(vec![0; share]), took: Duration::from_micros(20) };
        let mut squeezing = Squeezing::default();
        assert!(!squeezing.pays(None), "the first piece measures the link");
        assert!(!squeezing.pays(Some(FASTEST)), "no processor keeps up");
        assert!(squeezing.pays(Some(1_000_000)), "it is tried");
        // 1,000 bytes in 20 µs are 50 MB a second.
        assert!(squeezing.learn(1000, &squeezed(400)));
        assert!(squeezing.pays(Some(6_000_000)));
        assert!(!squeezing.pays(Some(60_000_000)), "the link is faster than gzip");
        assert!(!squeezing.learn(1000, &squeezed(990)), "it goes as it is");
        let tries = (0..TRY_AGAIN * 2).filter(|_| squeezing.pays(Some(1_000_000))).count();
        assert!(tries > 0, "later it is tried again");
        assert!(!squeezing.pays(None));
    }

    #[tokio::test]
    async fn compressed_pieces_are_what_gzip_reads() {
        let piece = Piece::filler(Bytes::from(vec![7; 100_000]));
        let squeezed = piece.squeezed().await;
        assert!(squeezed.bytes.len() < 1000);
        let mut read = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(squeezed.bytes.as_ref()), &mut read)
            .unwrap();
        assert_eq!(read, vec![7; 100_000]);
        assert_eq!(piece.digest(), piece.name.strip_prefix("f.").unwrap());
    }
}
