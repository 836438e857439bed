//! The proxy's HTTP API: versioned types and clients.
