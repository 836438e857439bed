//! The executable that the tests drive.

use std::path::PathBuf;

/// Returns the released executable, which the variable `FREEHOLD_EXECUTABLE` names.
///
/// # Errors
/// A message that says what to do when the variable is not set or names no file.
pub fn path() -> Result<PathBuf, String> {
    #[expect(clippy::disallowed_methods, reason = "tests have no main that reads the environment for them")]
    let path = std::env::var_os("FREEHOLD_EXECUTABLE").map(PathBuf::from);
    let path =
        path.ok_or("FREEHOLD_EXECUTABLE is not set: run `script/test e2e`, or set it to a built executable")?;
    if path.is_file() {
        Ok(path)
    } else {
        Err(format!("FREEHOLD_EXECUTABLE names no file: {}", path.display()))
    }
}
