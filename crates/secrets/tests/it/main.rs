//! Secrets files in a folder of their own, with a real shell.

#[cfg(test)]
mod load;
