use std::collections::BTreeMap;
use std::time::Duration;

use freehold_docker::{ContainerSpec, RemoveOptions};
use freehold_plan::AssetBridge;
use freehold_ssh::quote;

use crate::engine_host::link::Link;
use crate::engine_host::scripts::check_fence;
use crate::engine_host::{EngineHost, scripts};
use crate::host::{HostError, LeaseToken, Outcome, StepContext, StepError};

/// How long the copies of a release's assets may take on a slow disk.
const COPY_LIMIT: Duration = Duration::from_secs(10 * 60);

/// The exit codes by which a script says that the folder is empty, or that there is no `docker` command.
const EMPTY: i32 = 3;
const NO_COMMAND: i32 = 4;

impl EngineHost {
    /// Copies the assets of the new image to the host and merges them with those of the release that serves, both
    /// ways: a page of the one may come while the other already serves.
    pub(super) async fn bridge_assets(
        &self,
        bridge: &AssetBridge,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let link = self.link().await?;
        let output = self.fenced_script("make folders", &begin_copy(context.lease, bridge)).await?;
        if output.stdout.trim() == "0" {
            self.copy_by_volume(&link, bridge).await?;
        } else {
            // What the engine copies is root's, and this login could not remove it again.
            self.copy_by_command(&link, bridge).await?;
        }
        let merged = self.long_script("share the assets", &merge(context.lease, bridge), COPY_LIMIT).await?;
        match merged.code {
            0 => Ok(Outcome::Done(None)),
            EMPTY => Err(self.no_assets(bridge).into()),
            scripts::FENCED => Err(HostError::Fenced { host: self.name.clone() }.into()),
            _ => Err(self.failed("share the assets", &merged).await.into()),
        }
    }

    /// Lets the engine fill the folder: it copies what the image has into an empty volume.
    async fn copy_by_volume(&self, link: &Link, bridge: &AssetBridge) -> Result<(), StepError> {
        let failed = |error| StepError::Host(self.engine_error("copy the assets of the image", error));
        let engine = &link.engine;
        let volume = format!("freehold-{}", bridge.container);
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        engine.remove_container(bridge.container.as_str(), options).await.map_err(failed)?;
        engine.remove_volume(&volume).await.map_err(failed)?;
        let folder = format!("{}/{}", link.home, copy_folder(bridge));
        engine.create_folder_volume(&volume, &folder).await.map_err(failed)?;
        let mut spec = ContainerSpec::new(bridge.container.clone(), bridge.image.clone().into());
        // It never runs, but the engine makes no container without a command.
        spec.command = Some(vec!["true".to_owned()]);
        spec.volumes = vec![format!("{volume}:{}", bridge.path)];
        let made = engine.create_container(&spec).await;
        let removed = engine.remove_container(bridge.container.as_str(), options).await;
        let forgotten = engine.remove_volume(&volume).await;
        made.map_err(|error| self.create_error(&bridge.container, error))?;
        removed.map_err(failed)?;
        forgotten.map_err(failed)?;
        Ok(())
    }

    /// Copies with the host's `docker` command, as Kamal does.
    async fn copy_by_command(&self, link: &Link, bridge: &AssetBridge) -> Result<(), StepError> {
        let failed = |error| StepError::Host(self.engine_error("copy the assets of the image", error));
        let engine = &link.engine;
        let options = RemoveOptions { force: true, anonymous_volumes: true };
        engine.remove_container(bridge.container.as_str(), options).await.map_err(failed)?;
        let mut spec = ContainerSpec::new(bridge.container.clone(), bridge.image.clone().into());
        spec.command = Some(vec!["true".to_owned()]);
        engine.create_container(&spec).await.map_err(|error| self.create_error(&bridge.container, error))?;
        let script = format!(
            "command -v docker >/dev/null || exit {NO_COMMAND}; docker cp -L {} {}",
            quote(&format!("{}:{}/.", bridge.container, bridge.path)),
            quote(&copy_folder(bridge))
        );
        let copied = self.long_script("copy the assets of the image", &script, COPY_LIMIT).await;
        engine.remove_container(bridge.container.as_str(), options).await.map_err(failed)?;
        let copied = copied?;
        match copied.code {
            0 => Ok(()),
            NO_COMMAND => Err(HostError::Refused {
                host: self.name.clone(),
                operation: "copy the assets of the image".to_owned(),
                message: "a login that is not root needs the `docker` command for it".to_owned(),
            }
            .into()),
            _ => Err(self.failed("copy the assets of the image", &copied).await.into()),
        }
    }

    fn no_assets(&self, bridge: &AssetBridge) -> HostError {
        HostError::Refused {
            host: self.name.clone(),
            operation: format!("share the assets of role `{}`", bridge.role),
            message: format!("image `{}` has nothing in `{}`, its `asset_path`", bridge.image, bridge.path),
        }
    }

    pub(super) async fn write_error_pages(
        &self,
        directory: &str,
        pages: &BTreeMap<String, String>,
        context: &StepContext<'_>,
    ) -> Result<Outcome, StepError> {
        let script = error_pages(context.lease, directory, pages);
        self.fenced_script("write the error pages", &script).await?;
        Ok(Outcome::Done(None))
    }

    pub(super) async fn remove_directories(
        &self,
        directories: &[String],
        context: &StepContext<'_>,
    ) -> Result<(), StepError> {
        let script = format!("{}{}", check_fence(context.lease), scripts::remove_directories(directories));
        self.fenced_script("remove folders", &script).await?;
        Ok(())
    }
}

/// Where a copy is made: under another name than a whole one, so that half a copy is never taken for it.
fn copy_folder(bridge: &AssetBridge) -> String {
    format!("{}/extracted/.{}.new", bridge.directory, bridge.new)
}

/// Makes the folders for a copy and prints who we are.
fn begin_copy(token: &LeaseToken, bridge: &AssetBridge) -> String {
    let new = quote(&copy_folder(bridge));
    let volume = quote(&format!("{}/volumes/{}", bridge.directory, bridge.new));
    format!("{}umask 022; mkdir -p {volume} && rm -rf {new} && mkdir -p {new} && id -u", check_fence(token))
}

/// Gives a whole copy its name and merges it with the release that serves. Files that are there stay: a container may
/// read them.
fn merge(token: &LeaseToken, bridge: &AssetBridge) -> String {
    let old = bridge.old.as_ref().map_or_else(String::new, |old| {
        format!(
            "old={}\n\
             if [ -d \"volumes/$old\" ]; then merge \"extracted/$new\" \"volumes/$old\"; fi\n\
             if [ -d \"extracted/$old\" ]; then merge \"extracted/$old\" \"volumes/$new\"; fi\n",
            quote(old)
        )
    });
    format!(
        r#"{}umask 022; cd {} || exit 1
new={}
[ -n "$(ls -A "extracted/.$new.new")" ] || exit {EMPTY}
# Some versions of `cp -n` count a file that is there as a failure: then each is looked at.
merge() {{
  cp -rnT "$1" "$2" 2>/dev/null && return
  (cd "$1" && find . -type d) | while read -r path; do mkdir -p "$2/$path" || exit 1; done || exit 1
  (cd "$1" && find . ! -type d) | while read -r path; do
    [ -e "$2/$path" ] || [ -L "$2/$path" ] || cp -P "$1/$path" "$2/$path" || exit 1
  done || exit 1
}}
rm -rf "extracted/$new" && mv "extracted/.$new.new" "extracted/$new" || exit 1
merge "extracted/$new" "volumes/$new"
{old}"#,
        check_fence(token),
        quote(&bridge.directory),
        quote(&bridge.new),
    )
}

fn error_pages(token: &LeaseToken, directory: &str, pages: &BTreeMap<String, String>) -> String {
    let mut script = format!(
        "{}umask 022; to={}; rm -rf \"$to.new\"; mkdir -p \"$to.new\" || exit 1\n",
        check_fence(token),
        quote(directory)
    );
    for (name, text) in pages {
        script.push_str(&format!("printf '%s' {} > \"$to.new/\"{} || exit 1\n", quote(text), quote(name)));
    }
    script.push_str("rm -rf \"$to\" && mv \"$to.new\" \"$to\"");
    script
}
