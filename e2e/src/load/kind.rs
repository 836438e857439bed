use serde::Serialize;

/// One way to use a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Short requests, one after the other on a connection that is kept.
    KeepAlive,
    /// Short requests on a new connection each.
    NewConnection,
    /// Requests whose answer takes half a second.
    Slow,
    /// Uploads of 256 KiB that take a quarter of a second to send.
    Upload,
    /// WebSocket sessions of ten echoed messages and a closing handshake.
    WebSocket,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::KeepAlive, Self::NewConnection, Self::Slow, Self::Upload, Self::WebSocket];

    /// Returns the name that reports and options use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::NewConnection => "new-connection",
            Self::Slow => "slow",
            Self::Upload => "upload",
            Self::WebSocket => "websocket",
        }
    }

    /// Returns the kind of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}
