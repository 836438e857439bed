//! The audit log that Kamal and Freehold share on every host.

use std::sync::Arc;

use freehold_fleet::{EngineHost, Host};
use freehold_model::Project;
use tokio::task::JoinSet;

use crate::context::Context;

/// Begins a line as Kamal does: when, who, and of which destination.
pub(crate) fn line(context: &Context, project: &Project, performer: &str, act: &str) -> String {
    let time = context.now().strftime("%Y-%m-%dT%H:%M:%SZ");
    let destination = project.destination.as_ref().map(|name| format!(" [{name}]")).unwrap_or_default();
    // A file of lines must stay one.
    format!("[{time}] [{performer}]{destination} {act}").replace(['\n', '\r'], " ")
}

/// Writes down what is done on hosts by a command that is no plan. A host whose audit file cannot be written does it
/// all the same.
pub(crate) async fn write_down(
    context: &Context,
    project: &Project,
    performer: &str,
    acts: impl IntoIterator<Item = (Arc<EngineHost>, String)>,
) {
    let mut writes = JoinSet::new();
    for (host, act) in acts {
        let (line, stem) = (line(context, project, performer, &act), project.stem());
        writes.spawn(async move { (host.name().clone(), host.append_audit(&stem, &[line]).await) });
    }
    for (host, written) in writes.join_all().await {
        if let Err(error) = written {
            tracing::debug!(%host, %error, "the audit log could not be written");
        }
    }
}
