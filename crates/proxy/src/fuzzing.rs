//! What must hold for any bytes; for the fuzz targets only, which stand in `fuzz/` and cannot reach what is private.

mod control;
mod http1;

pub use control::{control_api, state_file};
pub use http1::{chunked_body, request_head, response_head};
