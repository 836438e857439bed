/// The number of this API; it is part of every path as `/v2`. Changes since 1: standby, confirm and gate.
pub const API_VERSION: u32 = 2;
