//! Any bytes as a body in chunks: in pieces it is read as at once.
#![no_main]

use freehold_proxy::fuzzing::chunked_body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(what) = chunked_body(bytes) {
        panic!("{what}");
    }
});
