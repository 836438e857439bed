//! Any bytes as the head of an answer: it ends where it ends, however much of it has come.
#![no_main]

use freehold_proxy::fuzzing::response_head;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Err(what) = response_head(bytes) {
        panic!("{what}");
    }
});
