/// The number of this API; it is part of every path as `/v4`. Changes since 1: standby, confirm, gate; buffering,
/// logged headers, canonical host, error pages, TLS and cookie paths as settings. Since 2: a service takes the place of
/// another. Since 3: traffic rules, users, verdicts on targets that are tried.
pub const API_VERSION: u32 = 4;
