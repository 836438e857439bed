//! HTTP/2 on both sides, as a translation at the edge.
//!
//! A stream of a connection is given to the exchange as a connection of its own that speaks HTTP/1.1: its head is written out
//! and read by the strict reader, its body is framed as there, and the answer's bytes are taken apart again. So every
//! decision, deadline and interruption is written once, and HTTP/1 pays nothing for it. A target that speaks HTTP/2 is
//! given to the exchange in the same way.
//!
//! With clients, frames, compression of heads and flow control are ours: [`connection`] drives a [`session`], whose heads
//! [`hpack`] compresses and whose costs [`allowance`] bounds. With targets they are the `h2` crate's.
//! <https://www.rfc-editor.org/rfc/rfc9113>

mod allowance;
mod answer;
pub(crate) mod connection;
mod frame;
pub(crate) mod head;
mod hpack;
pub(crate) mod links;
mod receive;
mod request;
mod session;
pub(crate) mod stream;
pub(crate) mod target;
mod transmit;

use std::io;

/// What a client sends first, also where nothing was agreed on before.
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol's name when an encrypted connection is agreed on.
pub(crate) const ALPN: &[u8] = b"h2";

/// The protocol as the log names it.
pub(crate) const NAME: &str = "HTTP/2.0";

/// How many requests of one connection may be open at a time.
const MAX_STREAMS: u32 = 128;

/// How many bytes of one body may be on their way to us.
const STREAM_WINDOW: u32 = 256 * 1024;

/// How many bytes of all bodies of a connection may be on their way to us.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How long the block of a head may get, compressed.
const MAX_BLOCK_BYTES: usize = 64 * 1024;

/// How many bytes of one body are held for a target that takes them slowly.
const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Says whether what came so far may be the beginning of a connection by HTTP/2, or is one.
pub(crate) fn begins(received: &[u8]) -> Option<Beginning> {
    if received.starts_with(PREFACE) {
        return Some(Beginning::Whole);
    }
    // What is shorter than this may still be something else.
    (received.len() > 3 && PREFACE.starts_with(received)).then_some(Beginning::Part)
}

/// How much of the first bytes is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    Part,
    Whole,
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}
