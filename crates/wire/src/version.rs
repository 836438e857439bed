/// The number of this API; it is part of every path as `/v4`. Changes since 1: standby, confirm, gate; buffering,
/// logged headers, canonical host, error pages, TLS and cookie paths as settings. Since 2: a service takes the place of
/// another. Since 3: what targets speak, compression; the proxy can be asked to hand over to another process; certificates of
/// clients, the fleet's store of certificates; how requests are shared out, limited and changed.
pub const API_VERSION: u32 = 4;
