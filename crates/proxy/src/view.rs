//! A request as routing and rules see it, whatever protocol it came by.

use freehold_model::UpgradeToken;
use freehold_wire::ServiceSettings;

use crate::http1::header::Kind;
use crate::http1::{HeaderLines, tokens};

/// What connections are upgraded to where nothing else is wanted.
pub(crate) const WEBSOCKET: &str = "websocket";

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
    pub(crate) headers: HeaderLines<'h, 'b>,
    /// Whether this asks for a WebSocket.
    pub(crate) upgrades_to_websocket: bool,
    /// The protocols to which it asks to be upgraded, a list; none where it may not.
    pub(crate) upgrade: Option<&'b [u8]>,
}

impl<'h, 'b> RequestView<'h, 'b> {
    /// Returns the protocol to which a service lets this upgrade its connection: the first one of the request's that is on the
    /// service's list. A WebSocket has to be asked for in the way that is written down for it (RFC 6455, section 4.1).
    pub(crate) fn upgrade_of<'s>(&self, settings: &'s ServiceSettings) -> Option<&'s str> {
        let asked = self.upgrade?;
        let websocket = self.upgrades_to_websocket.then_some(WEBSOCKET);
        let Some(allowed) = settings.traffic.as_ref().and_then(|traffic| traffic.upgrades.as_ref()) else {
            return websocket;
        };
        let is = |token: &[u8], name: &str| token.eq_ignore_ascii_case(name.as_bytes());
        let found =
            tokens(asked).find_map(|token| allowed.iter().find(|allowed| is(token, allowed.as_str())));
        found.map(UpgradeToken::as_str).filter(|name| *name != WEBSOCKET || websocket.is_some())
    }

    /// Returns the value of the first line of a name, unless it is empty.
    pub(crate) fn named(&self, name: &str) -> Option<&'b [u8]> {
        let mut lines = self.headers.iter().filter(|(_, line)| line.name.eq_ignore_ascii_case(name));
        lines.next().map(|(_, line)| line.value).filter(|value| !value.is_empty())
    }

    /// Returns the value of the first line of a kind that is not empty.
    pub(crate) fn first(&self, wanted: Kind) -> Option<&'b [u8]> {
        self.values(wanted).next()
    }

    /// Returns the values of all lines of a kind that are not empty.
    pub(crate) fn values(&self, wanted: Kind) -> impl Iterator<Item = &'b [u8]> + use<'h, 'b> {
        let lines = self.headers.iter().filter(move |(kind, line)| *kind == wanted && !line.value.is_empty());
        lines.map(|(_, line)| line.value)
    }
}
