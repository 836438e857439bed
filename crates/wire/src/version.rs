/// The number of this API; it is part of every path as `/v2`. Changes since 1: standby, confirm, gate; buffering,
/// logged headers, canonical host, error pages, TLS and cookie paths as settings.
pub const API_VERSION: u32 = 2;
