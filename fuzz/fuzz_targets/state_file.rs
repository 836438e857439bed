//! Any state file and copy of it: damaged, cut, of another version.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| freehold_proxy::fuzzing::state_file(text));
