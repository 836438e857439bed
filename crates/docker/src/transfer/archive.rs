use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

const BLOCK: usize = 512;

/// Names and records longer than this are not what engines write.
const LARGEST_RECORD: u64 = 1024 * 1024;

/// Two blocks of zeros, the end of every tar.
pub(crate) const END: &[u8] = &[0; 2 * BLOCK];

/// Reads a tar as it comes, entry by entry, and keeps its raw bytes for passing on.
pub(crate) struct ArchiveReader<S> {
    source: S,
    buffer: BytesMut,
    /// Raw bytes of the current entry's content, padding included, that have not been handed out.
    left: u64,
}

/// The head of one entry.
#[derive(Debug)]
pub(crate) struct Entry {
    /// All blocks before the content: the head and what extends it.
    pub(crate) head: Bytes,
    /// The path, without `./` before it.
    pub(crate) path: String,
    /// Whether it is a file with content of its own.
    pub(crate) is_file: bool,
    /// The size of the content without padding.
    pub(crate) size: u64,
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> ArchiveReader<S> {
    pub(crate) fn new(source: S) -> Self {
        Self { source, buffer: BytesMut::new(), left: 0 }
    }

    /// Returns the next entry, after skipping what is left of the one before, or nothing at the end.
    pub(crate) async fn next_entry(&mut self) -> io::Result<Option<Entry>> {
        while self.next_piece().await?.is_some() {}
        let mut head = BytesMut::new();
        let (mut long_path, mut long_size) = (None, None);
        loop {
            let Some(block) = self.block().await? else { return Ok(None) };
            let header = tar::Header::from_byte_slice(&block);
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            head.extend_from_slice(&block);
            let kind = header.entry_type();
            let size = header.entry_size()?;
            if kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
                let record = self.record(size, &mut head).await?;
                if kind.is_gnu_longname() {
                    long_path = Some(String::from_utf8_lossy(&record).trim_end_matches('\0').to_owned());
                } else if kind.is_pax_local_extensions() {
                    let (path, size) = pax(&record);
                    long_path = path.or(long_path);
                    long_size = size.or(long_size);
                }
                continue;
            }
            if kind.is_gnu_sparse() {
                return Err(io::Error::other("an archive of the engine holds a sparse file"));
            }
            let size = long_size.unwrap_or(size);
            let path =
                long_path.unwrap_or_else(|| String::from_utf8_lossy(&header.path_bytes()).into_owned());
            self.left = size.next_multiple_of(BLOCK as u64);
            return Ok(Some(Entry {
                head: head.freeze(),
                path: path.trim_start_matches("./").to_owned(),
                is_file: kind.is_file(),
                size,
            }));
        }
    }

    /// Returns the next raw bytes of the current entry, padding included, or nothing after the last.
    pub(crate) async fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.buffer.is_empty() && !self.fill().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = self.buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= u64::try_from(count).unwrap_or(self.left);
        Ok(Some(self.buffer.split_to(count).freeze()))
    }

    /// Reads on to the end, so that the connection ends well.
    pub(crate) async fn finish(mut self) -> io::Result<()> {
        while let Some(chunk) = self.source.next().await {
            chunk?;
        }
        Ok(())
    }

    async fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        while self.buffer.len() < BLOCK {
            if !self.fill().await? {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
        let block = self.buffer.split_to(BLOCK);
        Ok(<[u8; BLOCK]>::try_from(block.as_ref()).ok())
    }

    /// Reads the content of a head that extends the next one.
    async fn record(&mut self, size: u64, head: &mut BytesMut) -> io::Result<Vec<u8>> {
        if size > LARGEST_RECORD {
            return Err(io::Error::other("an archive of the engine holds an endless name"));
        }
        let mut record = Vec::new();
        self.left = size.next_multiple_of(BLOCK as u64);
        while let Some(piece) = self.next_piece().await? {
            head.extend_from_slice(&piece);
            record.extend_from_slice(&piece);
        }
        record.truncate(usize::try_from(size).unwrap_or_default());
        Ok(record)
    }

    async fn fill(&mut self) -> io::Result<bool> {
        match self.source.next().await {
            Some(chunk) => {
                let chunk = chunk?;
                // Whole pieces are handed on as they are: copying starts only with what a block leaves behind.
                if self.buffer.is_empty() {
                    self.buffer = BytesMut::from(chunk);
                } else {
                    self.buffer.extend_from_slice(&chunk);
                }
                Ok(true)
            }
            None => Ok(false),
        }
    }
}

/// The path and size of a PAX record: lines of `LENGTH KEY=VALUE`.
fn pax(record: &[u8]) -> (Option<String>, Option<u64>) {
    let (mut path, mut size) = (None, None);
    for line in String::from_utf8_lossy(record).lines() {
        match line.split_once(' ').and_then(|(_, pair)| pair.split_once('=')) {
            Some(("path", value)) => path = Some(value.to_owned()),
            Some(("size", value)) => size = value.parse().ok(),
            _ => {}
        }
    }
    (path, size)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], piece: usize) -> io::Result<Vec<(String, Vec<u8>)>> {
        let chunks: Vec<io::Result<Bytes>> =
            bytes.chunks(piece).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        let mut reader = ArchiveReader::new(futures_util::stream::iter(chunks));
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().await? {
            let mut content = Vec::new();
            while let Some(piece) = reader.next_piece().await? {
                content.extend_from_slice(&piece);
            }
            content.truncate(entry.size as usize);
            entries.push((entry.path, content));
        }
        reader.finish().await?;
        Ok(entries)
    }

    fn example() -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, content) in
            [("a".to_owned(), vec![1; 700]), ("n".repeat(200), vec![2; 512]), ("e".into(), vec![])]
        {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            archive.append_data(&mut header, name, content.as_slice()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[tokio::test]
    async fn entries_survive_any_cutting() {
        let bytes = example();
        for piece in [1, 100, 511, 512, 513, 4096] {
            let entries = read(&bytes, piece).await.unwrap();
            let sizes: Vec<(usize, usize)> =
                entries.iter().map(|(name, data)| (name.len(), data.len())).collect();
            assert_eq!(sizes, [(1, 700), (200, 512), (1, 0)], "{piece}");
        }
    }

    #[tokio::test]
    async fn an_archive_that_breaks_off_is_an_error() {
        let bytes = example();
        assert_eq!(read(&bytes[..1000], 512).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(read(&bytes[..100], 512).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn pax_records_name_path_and_size() {
        assert_eq!(pax(b"12 path=abc\n11 size=70\n"), (Some("abc".to_owned()), Some(70)));
    }
}
