use std::time::Duration;

use super::engine::{Engine, repository};
use super::{LabError, Suite, command};

/// The first time on a computer, a whole Debian is put together.
const MAKE_LIMIT: Duration = Duration::from_secs(1200);

/// Makes the image of a lab host where the engine lacks it, and returns its name.
pub(super) async fn ensure(engine: &Engine, suite: Suite) -> Result<String, LabError> {
    let script = repository().join("e2e/lab/host-image").to_string_lossy().into_owned();
    let host = format!("DOCKER_HOST={}", engine.address());
    command::run("env", &[&host, &script, "ensure", suite.as_str()], MAKE_LIMIT).await?;
    let name = command::run(&script, &["name", suite.as_str()], MAKE_LIMIT).await?;
    Ok(name.trim().to_owned())
}
