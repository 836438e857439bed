//! The log: one JSON object per line, written by a thread of its own so that a slow reader stalls no request.

use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use jiff::Timestamp;

/// How many blocks of lines may wait for the writing thread.
const QUEUE_BLOCKS: usize = 256;

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// Takes lines for the log; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    blocks: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
    debug: bool,
}

/// The thread that writes; it ends when every [`Log`] is gone.
#[derive(Debug)]
pub(crate) struct LogWriter(JoinHandle<()>);

impl Log {
    /// Starts the thread that writes to an output.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub(crate) fn start(output: Box<dyn Write + Send>, debug: bool) -> std::io::Result<(Self, LogWriter)> {
        let (blocks, queue) = sync_channel(QUEUE_BLOCKS);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&lost);
        let thread = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write(output, &queue, &counter))?;
        Ok((Self { blocks, lost, debug }, LogWriter(thread)))
    }

    /// Writes whole lines. Where the reader is so slow that the queue is full, they are dropped and counted.
    pub(crate) fn block(&self, lines: Vec<u8>) {
        if let Err(TrySendError::Full(lines)) = self.blocks.try_send(lines) {
            let count = lines.iter().filter(|byte| **byte == b'\n').count();
            self.lost.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// Writes one line; debug lines only where they are wanted.
    pub(crate) fn line(&self, level: Level, message: &str, fields: &[(&str, &dyn Display)]) {
        if level == Level::Debug && !self.debug {
            return;
        }
        let mut line = Vec::with_capacity(256);
        line.extend_from_slice(
            format!("{{\"time\":\"{:.9}\",\"level\":\"{}\"", Timestamp::now(), level.as_str()).as_bytes(),
        );
        field(&mut line, "msg", message.as_bytes());
        for (name, value) in fields {
            field(&mut line, name, value.to_string().as_bytes());
        }
        line.extend_from_slice(b"}\n");
        self.block(line);
    }

    /// Writes a line about what went on as it should.
    pub(crate) fn info(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.line(Level::Info, message, fields);
    }

    /// Writes a line about what somebody must look at.
    pub(crate) fn error(&self, message: &str, fields: &[(&str, &dyn Display)]) {
        self.line(Level::Error, message, fields);
    }
}

impl LogWriter {
    /// Waits until everything is written; to be called when every [`Log`] is gone.
    pub(crate) fn join(self) {
        // A panic of the writing thread has lost log lines and nothing else; there is nowhere left to report it.
        self.0.join().ok();
    }
}

fn write(mut output: Box<dyn Write + Send>, queue: &Receiver<Vec<u8>>, lost: &AtomicU64) {
    // A reader that is gone must not end the proxy: lines are dropped until there is one again.
    while let Ok(block) = queue.recv() {
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let note = format!("{{\"level\":\"WARN\",\"msg\":\"Log lines lost\",\"count\":{count}}}\n");
            output.write_all(note.as_bytes()).ok();
        }
        output.write_all(&block).and_then(|()| output.flush()).ok();
    }
}

/// Appends `,"name":"value"`.
pub(crate) fn field(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":\"");
    escape(line, value);
    line.push(b'"');
}

/// Says whether a text can stand in a JSON string as it is. That is asked of every field of every line, so eight bytes are
/// looked at together.
fn is_plain(value: &[u8]) -> bool {
    const LOWEST: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = u64::from_ne_bytes([0x80; 8]);
    // The highest bit of a byte stays if the byte is below a limit up to 128, here for 1: if it is 0.
    let below = |block: u64, limit: u8| block.wrapping_sub(LOWEST * u64::from(limit)) & !block & HIGHEST;
    let equals = |block: u64, byte: u8| below(block ^ (LOWEST * u64::from(byte)), 1);
    let (blocks, rest) = value.as_chunks::<8>();
    let mut last = [b' '; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    blocks.iter().chain([&last]).all(|block| {
        let block = u64::from_ne_bytes(*block);
        let special = equals(block, b'"') | equals(block, b'\\') | equals(block, 0x7f);
        (block & HIGHEST) | below(block, b' ') | special == 0
    })
}

/// Appends text for the inside of a JSON string, without any control character, whatever a client sent.
pub(crate) fn escape(line: &mut Vec<u8>, value: &[u8]) {
    if is_plain(value) {
        line.extend_from_slice(value);
        return;
    }
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' | '\\' => line.extend_from_slice(&[b'\\', u8::try_from(character).unwrap_or(b'?')]),
                _ if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}') => {
                    line.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
                }
                _ => line.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_plain_is_found_wherever_it_stands() {
        for byte in 0..=255 {
            let wanted = (b' '..0x7f).contains(&byte) && byte != b'"' && byte != b'\\';
            for at in 0..20 {
                for around in [b' ', b'!', b'~', b'#'] {
                    let mut text = [around; 20];
                    text[at] = byte;
                    assert_eq!(is_plain(&text), wanted, "{byte} at {at}");
                }
            }
        }
        assert!(is_plain(b""));
    }

    #[test]
    fn whatever_a_client_sends_stays_inside_its_string() {
        let mut line = Vec::new();
        escape(&mut line, b"a\"b\\c\n\x1b[31m\x7f\xff\xc2\x9b\xe2\x80\xa8 \xc3\xa4");
        let text = String::from_utf8(line).unwrap();
        assert_eq!(text, "a\\\"b\\\\c\\u000a\\u001b[31m\\u007f\u{fffd}\\u009b\\u2028 \u{e4}");
        let parsed: String = serde_json::from_str(&format!("\"{text}\"")).unwrap();
        assert!(parsed.starts_with("a\"b\\c\n\u{1b}[31m"));
    }
}
