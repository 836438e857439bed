//! The `freehold` executable.

fn main() {}
