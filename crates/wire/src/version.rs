/// The number of this API; it is part of every path as `/v1`.
pub const API_VERSION: u32 = 1;
