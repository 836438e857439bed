//! Any bytes as the head of a request: what is forwarded of it is one request, and the same one.
#![no_main]

use freehold_proxy::fuzzing::request_head;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(what) = request_head(bytes) {
        panic!("{what}");
    }
});
