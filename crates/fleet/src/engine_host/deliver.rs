use freehold_model::ImageReference;
use freehold_plan::BuildPlaceName;

use crate::engine_host::EngineHost;
use crate::host::{Outcome, StepContext, StepError};

impl EngineHost {
    /// Brings the image from the engine that built it, whole.
    pub(super) async fn deliver(
        &self,
        image: &ImageReference,
        from: &BuildPlaceName,
        _context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let source = self.builder(from).await?;
        let link = self.link().await?;
        let name = image.to_string();
        let operation = format!("send image `{image}`");
        let failed = |error| StepError::Host(self.engine_error(&operation, error));
        let there = link.engine.inspect_image(&name).await.map_err(failed)?;
        let here = source.inspect_image(&name).await.map_err(failed)?;
        if there.is_some_and(|there| here.as_ref().is_some_and(|here| there.id == here.id)) {
            return Ok(Outcome::AlreadyDone);
        }
        let archive = source.save_image(&name).await.map_err(failed)?;
        link.engine.load_archive(Box::pin(archive)).await.map_err(failed)?;
        Ok(Outcome::Done(None))
    }
}
