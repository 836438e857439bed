//! Sends requests.

fn main() {}
