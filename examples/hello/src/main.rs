//! A small web application.

fn main() {}
