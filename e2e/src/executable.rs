//! The executables that the tests drive; `script/test e2e` builds them and says where they are.

use std::path::PathBuf;

/// Returns the released executable, which the variable `FREEHOLD_EXECUTABLE` names.
///
/// # Errors
/// A message that says what to do when the variable is not set or names no file.
pub fn path() -> Result<PathBuf, String> {
    named_by("FREEHOLD_EXECUTABLE")
}

/// Returns the static executable of `examples/hello`, which the variable `FREEHOLD_HELLO` names.
///
/// # Errors
/// A message that says what to do when the variable is not set or names no file.
pub fn hello() -> Result<PathBuf, String> {
    named_by("FREEHOLD_HELLO")
}

fn named_by(variable: &str) -> Result<PathBuf, String> {
    #[expect(clippy::disallowed_methods, reason = "tests have no main that reads the environment for them")]
    let path = std::env::var_os(variable).map(PathBuf::from);
    let path =
        path.ok_or_else(|| format!("{variable} is not set: run `script/test e2e`, or set it by hand"))?;
    if path.is_file() { Ok(path) } else { Err(format!("{variable} names no file: {}", path.display())) }
}
