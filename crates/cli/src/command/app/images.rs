use serde::Serialize;

use crate::context::Context;
use crate::error::CommandError;
use crate::sight::Sight;
use crate::ui::{Line, Table, Tone};

/// List the images of the application that the hosts have.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

#[derive(Debug, Serialize)]
struct Image {
    host: String,
    tag: String,
    id: String,
    size_bytes: u64,
}

pub(crate) async fn run(context: &Context, _arguments: &Args) -> Result<(), CommandError> {
    let sight = Sight::prepare(context).await?;
    let repository = &sight.loaded.chosen.image;
    let answers = sight
        .hosts
        .each(|host| {
            let repository = repository.clone();
            async move { host.images(&repository).await }
        })
        .await?;
    let mut images = Vec::new();
    for (host, summaries) in answers {
        for summary in summaries {
            let id = summary.id.trim_start_matches("sha256:").chars().take(12).collect::<String>();
            images.extend(summary.tags.iter().map(|tag| Image {
                host: host.to_string(),
                tag: tag.clone(),
                id: id.clone(),
                size_bytes: summary.size_bytes,
            }));
        }
    }
    context.ui.close();
    let mut table = Table::new(["host", "image", "id", "size"]);
    for image in &images {
        table.row([
            (Tone::Strong, image.host.clone()),
            (Tone::Plain, image.tag.clone()),
            (Tone::Faint, image.id.clone()),
            (Tone::Plain, format!("{:.1} MB", image.size_bytes as f64 / 1e6)),
        ]);
    }
    if table.is_empty() {
        context.ui.result(&[Line::new().plain("no images of this service")]);
    } else {
        context.ui.result(&table.lines());
    }
    context.ui.result_json(context.command, &images);
    Ok(())
}
