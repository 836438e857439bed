//! Any body for any request of the proxy's control API.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| freehold_proxy::fuzzing::control_api(text));
