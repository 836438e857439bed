use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use jiff::Timestamp;

use crate::engine::within;
use crate::frame::{Frames, OutputStream};
use crate::request::{Chunks, EngineRequest, escape};
use crate::{Engine, EngineError};

/// The longest line that is kept together; a longer one comes in pieces.
const LONGEST_LINE: usize = 64 * 1024;

/// The most that [`Engine::last_logs`] keeps, in bytes.
const LAST_LOGS_BYTES: usize = 256 * 1024;

/// Which lines of a container's log, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Only that many from the end.
    pub tail: Option<u32>,
    /// Only those from that time on.
    pub since: Option<Timestamp>,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Wait for further lines until the container ends.
    pub follow: bool,
}

/// One line of a container's log, without its line feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Where it was written to.
    pub stream: OutputStream,
    /// Its bytes, as the container wrote them: escape them before they reach a terminal.
    pub bytes: Bytes,
}

impl LogLine {
    /// Returns the line as text, broken UTF-8 replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Engine {
    /// Reads a container's log over a connection of its own, which ends when the stream is dropped.
    ///
    /// # Errors
    /// [`EngineError`], at once or in the stream; status 404 if there is no such container.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn logs(
        &self,
        container: &str,
        options: &LogOptions,
    ) -> Result<impl Stream<Item = Result<LogLine, EngineError>> + Send + Unpin + use<>, EngineError> {
        let action = format!("read the log of container `{container}`");
        let tty = self.has_terminal(container).await?;
        let mut request = EngineRequest::get(&action, format!("/containers/{}/logs", escape(container)))
            .query("stdout", "1")
            .query("stderr", "1")
            .query("follow", if options.follow { "1" } else { "0" })
            .query("timestamps", if options.timestamps { "1" } else { "0" })
            .query("tail", options.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string()));
        if let Some(since) = options.since {
            let (seconds, nanoseconds) = (since.as_second(), since.subsec_nanosecond());
            request = request.query("since", format!("{seconds}.{nanoseconds:09}"));
        }
        let limit = self.deadlines().request;
        let (answer, connection) = self.send_apart(request, limit).await?;
        let chunks = if options.follow { answer.endless() } else { answer.chunks(limit) };
        let reader = LogReader { chunks, lines: Lines::new(tty), failed: false };
        Ok(Box::pin(futures_util::stream::unfold(
            (reader, connection),
            |(mut reader, connection)| async move {
                let next = reader.next().await?;
                Some((next, (reader, connection)))
            },
        )))
    }

    /// Returns the last `count` lines of a container's log, at most 256 KiB of them, as text.
    ///
    /// # Errors
    /// [`EngineError`]; status 404 if there is no such container.
    ///
    /// # Cancel safety
    /// Reads only.
    pub async fn last_logs(&self, container: &str, count: u32) -> Result<Vec<String>, EngineError> {
        use futures_util::StreamExt;

        let action = format!("read the log of container `{container}`");
        let options = LogOptions { tail: Some(count), ..LogOptions::default() };
        within(self.deadlines().request, &action, async {
            let mut stream = self.logs(container, &options).await?;
            let mut lines = VecDeque::new();
            let mut size = 0;
            while let Some(line) = stream.next().await {
                let text = line?.text();
                size += text.len();
                lines.push_back(text);
                while size > LAST_LOGS_BYTES || lines.len() > usize::try_from(count).unwrap_or(usize::MAX) {
                    size -= lines.pop_front().map_or(size, |line| line.len());
                }
            }
            Ok(lines.into())
        })
        .await
    }

    async fn has_terminal(&self, container: &str) -> Result<bool, EngineError> {
        match self.inspect_container(container).await? {
            Some(details) => Ok(details.tty),
            // Let the request itself say that there is none.
            None => Ok(false),
        }
    }
}

struct LogReader {
    chunks: Chunks,
    lines: Lines,
    failed: bool,
}

impl LogReader {
    async fn next(&mut self) -> Option<Result<LogLine, EngineError>> {
        if self.failed {
            return None;
        }
        loop {
            if let Some(line) = self.lines.next() {
                return Some(Ok(line));
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.lines.push(&chunk),
                Some(Err(error)) => {
                    self.failed = true;
                    return Some(Err(error));
                }
                None => return self.lines.rest().map(Ok),
            }
        }
    }
}

/// Joins the pieces of each output to lines.
struct Lines {
    frames: Frames,
    stdout: BytesMut,
    stderr: BytesMut,
}

impl Lines {
    fn new(tty: bool) -> Self {
        Self { frames: Frames::new(tty), stdout: BytesMut::new(), stderr: BytesMut::new() }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.frames.push(bytes);
    }

    fn next(&mut self) -> Option<LogLine> {
        loop {
            for (stream, buffer) in
                [(OutputStream::Stdout, &mut self.stdout), (OutputStream::Stderr, &mut self.stderr)]
            {
                if let Some(line) = take_line(buffer) {
                    return Some(LogLine { stream, bytes: line });
                }
            }
            let (stream, piece) = self.frames.next()?;
            match stream {
                OutputStream::Stdout => self.stdout.extend_from_slice(&piece),
                OutputStream::Stderr => self.stderr.extend_from_slice(&piece),
            }
        }
    }

    /// The last line, if the container ended without a line feed.
    fn rest(&mut self) -> Option<LogLine> {
        for (stream, buffer) in
            [(OutputStream::Stdout, &mut self.stdout), (OutputStream::Stderr, &mut self.stderr)]
        {
            if !buffer.is_empty() {
                return Some(LogLine { stream, bytes: buffer.split().freeze() });
            }
        }
        None
    }
}

fn take_line(buffer: &mut BytesMut) -> Option<Bytes> {
    match buffer.iter().take(LONGEST_LINE).position(|byte| *byte == b'\n') {
        Some(end) => {
            let mut line = buffer.split_to(end + 1);
            line.truncate(end);
            if line.last() == Some(&b'\r') {
                line.truncate(end - 1);
            }
            Some(line.freeze())
        }
        None if buffer.len() >= LONGEST_LINE => Some(buffer.split_to(LONGEST_LINE).freeze()),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_joined_over_frames_and_kept_apart_by_stream() {
        let mut lines = Lines::new(false);
        for (stream, text) in [(1u8, "a"), (2, "x\ny"), (1, "b\n"), (1, "tail")] {
            let mut frame = vec![stream, 0, 0, 0, 0, 0, 0, text.len() as u8];
            frame.extend(text.bytes());
            lines.push(&frame);
        }
        let mut seen = Vec::new();
        while let Some(line) = lines.next().or_else(|| lines.rest()) {
            seen.push((line.stream, line.text()));
        }
        let text = |stream, text: &str| (stream, text.to_owned());
        assert_eq!(
            seen,
            [
                text(OutputStream::Stderr, "x"),
                text(OutputStream::Stdout, "ab"),
                text(OutputStream::Stdout, "tail"),
                text(OutputStream::Stderr, "y"),
            ]
        );
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let mut lines = Lines::new(true);
        lines.push(&vec![b'x'; LONGEST_LINE + 10]);
        assert_eq!(lines.next().unwrap().bytes.len(), LONGEST_LINE);
        assert!(lines.next().is_none());
        assert_eq!(lines.rest().unwrap().bytes.len(), 10);
    }
}
