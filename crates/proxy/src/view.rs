//! A request as routing and rules see it, whatever protocol it came by.

use httparse::Header;

use crate::http1::header::{Kind, kind};
use crate::http1::tokens;

/// The parts of a request head that decisions are made on, borrowed from the buffer it stands in.
///
/// HTTP/2 fills the same view from its own fields, so that every decision is written once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestView<'h, 'b> {
    pub(crate) method: &'b str,
    /// Host and port as the client wrote them; empty where an HTTP/1.0 client named none.
    pub(crate) authority: &'b str,
    /// The authority without its port.
    pub(crate) host: &'b str,
    /// The path as it was sent, escapes and all.
    pub(crate) path: &'b str,
    pub(crate) query: Option<&'b str>,
    pub(crate) headers: &'h [Header<'b>],
    /// Whether this asks for a WebSocket.
    pub(crate) upgrades_to_websocket: bool,
}

impl<'b> RequestView<'_, 'b> {
    /// Returns the value of the first line of a kind that is not empty.
    pub(crate) fn first(&self, wanted: Kind) -> Option<&'b [u8]> {
        self.headers
            .iter()
            .find(|header| !header.value.is_empty() && kind(header.name.as_bytes()) == wanted)
            .map(|header| header.value)
    }

    /// Returns the values of all lines of a kind that are not empty.
    pub(crate) fn values(&self, wanted: Kind) -> Vec<&'b [u8]> {
        self.headers
            .iter()
            .filter(|header| !header.value.is_empty() && kind(header.name.as_bytes()) == wanted)
            .map(|header| header.value)
            .collect()
    }

    /// Says whether a `Connection` line names a header.
    pub(crate) fn connection_names(&self, name: &[u8]) -> bool {
        connection_names(self.headers, name)
    }
}

/// Says whether a `Connection` line names a header.
pub(crate) fn connection_names(headers: &[Header<'_>], name: &[u8]) -> bool {
    headers
        .iter()
        .filter(|header| kind(header.name.as_bytes()) == Kind::Connection)
        .any(|header| tokens(header.value).any(|token| token.eq_ignore_ascii_case(name)))
}
