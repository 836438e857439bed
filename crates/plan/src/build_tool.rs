//! What builds an image, after Kamal's rules (kamal-compat §6), and the command lines of the tools that are not engines.

use std::collections::BTreeMap;

use freehold_model::{
    Architecture, BuildCache, BuildDriver, Builder, Buildpacks, CacheKind, ImageReference, SecretName,
};

/// What builds an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildTool {
    /// An engine of ours, by its own BuildKit: that of this machine or of a host.
    Engine,
    /// The engine of another machine, by its address: `ssh://user@host`.
    RemoteEngine(String),
    /// `docker buildx`, for what no engine does by itself.
    Buildx(Buildx),
    /// `pack`: Cloud Native Buildpacks.
    Pack(Buildpacks),
}

/// A builder of `docker buildx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildx {
    /// Its kind.
    pub kind: BuildxKind,
    /// The driver, as `--driver` reads it.
    pub driver: String,
    /// Whether it must reach a registry on this machine's loopback address.
    pub uses_local_registry: bool,
}

/// The kinds of builders that Kamal makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildxKind {
    /// On this machine.
    Local,
    /// On another machine, by its address.
    Remote(String),
    /// Both: some architectures here, the others there.
    Hybrid {
        /// The other machine.
        remote: String,
        /// What is built here.
        local_architectures: Vec<Architecture>,
        /// What is built there.
        remote_architectures: Vec<Architecture>,
    },
    /// Docker Build Cloud.
    Cloud,
}

/// Decides what builds. `local` is the architecture of this machine's engine, if it answers.
#[must_use]
pub fn build_tool(builder: &Builder, uses_local_registry: bool, local: Option<Architecture>) -> BuildTool {
    let (here, there): (Vec<Architecture>, Vec<Architecture>) = match &builder.remote {
        None => (builder.architectures.clone(), Vec::new()),
        Some(_) => builder
            .architectures
            .iter()
            .partition(|architecture| builder.local && Some(**architecture) == local),
    };
    // Without `arch`, a remote builder builds for its own architecture.
    let is_remote_only = builder.architectures.is_empty() && !builder.local;
    let driver = match &builder.driver {
        BuildDriver::DockerContainer => "docker-container".to_owned(),
        BuildDriver::Docker => "docker".to_owned(),
        BuildDriver::Named(name) => name.clone(),
        BuildDriver::Cloud(name) => format!("cloud {name}"),
    };
    let buildx = |kind| BuildTool::Buildx(Buildx { kind, driver: driver.clone(), uses_local_registry });
    let is_plain = matches!(builder.driver, BuildDriver::DockerContainer | BuildDriver::Docker)
        && builder.cache.is_none()
        && !is_wanted(builder.provenance.as_deref())
        && !is_wanted(builder.sbom.as_deref())
        && builder.architectures.len() < 2;
    match &builder.remote {
        Some(remote) if is_plain && (is_remote_only || !there.is_empty()) => {
            BuildTool::RemoteEngine(remote.clone())
        }
        Some(remote) if !there.is_empty() && !here.is_empty() => buildx(BuildxKind::Hybrid {
            remote: remote.clone(),
            local_architectures: here,
            remote_architectures: there,
        }),
        Some(remote) if is_remote_only || !there.is_empty() => buildx(BuildxKind::Remote(remote.clone())),
        _ => match (&builder.pack, &builder.driver) {
            (Some(pack), _) => BuildTool::Pack(pack.clone()),
            (None, BuildDriver::Cloud(_)) => buildx(BuildxKind::Cloud),
            (None, _) if is_plain => BuildTool::Engine,
            (None, _) => buildx(BuildxKind::Local),
        },
    }
}

/// `false` is what happens anyway.
fn is_wanted(attestation: Option<&str>) -> bool {
    attestation.is_some_and(|value| value != "false")
}

impl Buildx {
    /// Returns the builder's name; none where the engine itself is the builder.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let suffix = if self.uses_local_registry { "-local-registry" } else { "" };
        match &self.kind {
            BuildxKind::Local if self.driver == "docker" => None,
            BuildxKind::Local if self.uses_local_registry => {
                Some(format!("kamal-local-registry-{}", self.driver))
            }
            BuildxKind::Local => Some(format!("kamal-local-{}", self.driver)),
            BuildxKind::Remote(remote) => Some(format!("kamal-remote-{}{suffix}", slug(remote))),
            BuildxKind::Hybrid { remote, .. } => {
                Some(format!("kamal-hybrid-{}-{}{suffix}", self.driver, slug(remote)))
            }
            BuildxKind::Cloud => Some(self.driver.replace([' ', '/'], "-")),
        }
    }

    /// Returns the words of `docker` that say whether the builder is there.
    #[must_use]
    pub fn inspect(&self) -> Option<Vec<String>> {
        Some(words(["buildx", "inspect"]).with(self.name()?))
    }

    /// Returns the command lines of `docker` that make the builder, one after another.
    #[must_use]
    pub fn create(&self) -> Vec<Vec<String>> {
        let Some(name) = self.name() else { return Vec::new() };
        let create = |more: Vec<String>| {
            let mut line = words(["buildx", "create"]);
            line.extend(more);
            line
        };
        let network: Vec<String> =
            if self.uses_local_registry { words(["--driver-opt", "network=host"]) } else { Vec::new() };
        let context = |remote: &str| {
            words(["context", "create"])
                .with(format!("{name}-context"))
                .with("--description")
                .with(format!("{name} host"))
                .with("--docker")
                .with(format!("host={remote}"))
        };
        let driver = format!("--driver={}", self.driver);
        match &self.kind {
            BuildxKind::Local => {
                let line = words(["--name"]).with(name).with(driver);
                vec![create([line, network].concat())]
            }
            BuildxKind::Remote(remote) => {
                let line = words(["--name"]).with(name.clone());
                vec![context(remote), create([line, network, vec![format!("{name}-context")]].concat())]
            }
            BuildxKind::Hybrid { remote, local_architectures, remote_architectures } => {
                let here = words(["--platform"])
                    .with(platforms(local_architectures))
                    .with("--name")
                    .with(name.clone())
                    .with(driver);
                let there = words(["--platform"])
                    .with(platforms(remote_architectures))
                    .with("--append")
                    .with("--name")
                    .with(name.clone());
                vec![
                    create([here, network.clone()].concat()),
                    context(remote),
                    create([there, network, vec![format!("{name}-context")]].concat()),
                ]
            }
            BuildxKind::Cloud => vec![create(words(["--driver"]).with(self.driver.clone()))],
        }
    }

    /// Returns the command lines of `docker` that remove the builder, one after another.
    #[must_use]
    pub fn remove(&self) -> Vec<Vec<String>> {
        let Some(name) = self.name() else { return Vec::new() };
        let builder = words(["buildx", "rm"]).with(name.clone());
        match &self.kind {
            BuildxKind::Local | BuildxKind::Cloud => vec![builder],
            BuildxKind::Remote(_) | BuildxKind::Hybrid { .. } => {
                vec![words(["context", "rm"]).with(format!("{name}-context")), builder]
            }
        }
    }

    /// Says whether builds happen on another machine, which gets its credentials there.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        matches!(self.kind, BuildxKind::Remote(_) | BuildxKind::Hybrid { .. })
    }
}

/// What `docker buildx build` is told.
#[derive(Debug, Clone, Copy)]
pub struct BuildxCommand<'a> {
    /// The builder.
    pub buildx: &'a Buildx,
    /// The project's settings.
    pub builder: &'a Builder,
    /// The names of the image.
    pub tags: &'a [ImageReference],
    /// Labels of the image.
    pub labels: &'a BTreeMap<String, String>,
    /// Where the image goes: `registry` or, to be loaded into this machine's engine, `docker`.
    pub output: &'a str,
    /// Whether every step runs again.
    pub is_uncached: bool,
    /// The folder with the source.
    pub context: &'a str,
    /// Variables with which the value of `ssh` is completed.
    pub environment: &'a BTreeMap<String, String>,
}

impl BuildxCommand<'_> {
    /// Returns the words of `docker`. Secrets are named; their values are expected in the environment.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let Self { builder, .. } = self;
        let mut line = words(["buildx", "build"]).with(format!("--output=type={}", self.output));
        let mut flag = |name: &str, value: String| line.extend([name.to_owned(), value]);
        if !builder.architectures.is_empty() {
            flag("--platform", platforms(&builder.architectures));
        }
        if let Some(name) = self.buildx.name() {
            flag("--builder", name);
        }
        self.tags.iter().for_each(|tag| flag("-t", tag.to_string()));
        if let Some(cache) = &builder.cache {
            let (to, from) = cache_flags(cache);
            flag("--cache-to", to);
            flag("--cache-from", from);
        }
        self.labels.iter().for_each(|(name, value)| flag("--label", format!("{name}={value}")));
        builder.args.iter().for_each(|(name, value)| flag("--build-arg", format!("{name}={value}")));
        builder.secrets.iter().for_each(|name| flag("--secret", format!("id={name}")));
        flag("--file", format!("{}/{}", self.context, builder.dockerfile.display()));
        if let Some(target) = &builder.target {
            flag("--target", target.clone());
        }
        if let Some(ssh) = &builder.ssh {
            flag("--ssh", expand_variables(ssh, self.environment));
        }
        if let Some(provenance) = &builder.provenance {
            flag("--provenance", provenance.clone());
        }
        if let Some(sbom) = &builder.sbom {
            flag("--sbom", sbom.clone());
        }
        if self.is_uncached {
            line.push("--no-cache".to_owned());
        }
        line.with(self.context)
    }
}

/// What `pack build` is told.
#[derive(Debug, Clone, Copy)]
pub struct PackCommand<'a> {
    /// The builder image and the buildpacks.
    pub pack: &'a Buildpacks,
    /// The project's settings.
    pub builder: &'a Builder,
    /// The names of the image, of which the first is its own.
    pub tags: &'a [ImageReference],
    /// The service, for the label by which its images are known.
    pub service: &'a str,
    /// Whether the cache is cleared.
    pub is_uncached: bool,
    /// The folder with the source.
    pub context: &'a str,
}

impl PackCommand<'_> {
    /// Returns the words of `pack`. Variables and secrets are named; their values are expected in the environment, as
    /// `pack` takes them from there.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        let repository = self.tags.first().map(|tag| tag.repository.to_string()).unwrap_or_default();
        let mut line = words(["build"]).with(repository);
        let mut flag = |name: &str, value: String| line.extend([name.to_owned(), value]);
        if let [architecture] = self.builder.architectures.as_slice() {
            flag("--platform", format!("linux/{architecture}"));
        }
        flag("--creation-time", "now".to_owned());
        flag("--builder", self.pack.builder.clone());
        let labels = "paketo-buildpacks/image-labels";
        for buildpack in self.pack.buildpacks.iter().map(String::as_str).chain([labels]) {
            flag("--buildpack", buildpack.to_owned());
        }
        self.tags.iter().for_each(|tag| flag("-t", tag.to_string()));
        flag("--env", format!("BP_IMAGE_LABELS=service={}", self.service));
        let names = self.builder.args.keys().cloned();
        let secrets = self.builder.secrets.iter().map(SecretName::to_string);
        names.chain(secrets).for_each(|name| flag("--env", name));
        flag("--path", self.context.to_owned());
        if self.is_uncached {
            line.push("--clear-cache".to_owned());
        }
        line
    }
}

/// Returns what `--cache-to` and `--cache-from` are told.
fn cache_flags(cache: &BuildCache) -> (String, String) {
    let joined = |base: String, more: &str| if more.is_empty() { base } else { format!("{base},{more}") };
    let options = cache.options.as_deref().unwrap_or_default();
    match &cache.kind {
        CacheKind::Gha => {
            let of_both = ["url=", "url_v2=", "token=", "scope=", "timeout="];
            let both: Vec<&str> = options
                .split(',')
                .filter(|option| of_both.iter().any(|name| option.starts_with(name)))
                .collect();
            (joined("type=gha".to_owned(), options), joined("type=gha".to_owned(), &both.join(",")))
        }
        CacheKind::Local(folder) => {
            let folder = folder.display();
            (joined(format!("type=local,dest={folder}"), options), format!("type=local,src={folder}"))
        }
        CacheKind::Registry(image) => {
            let base = format!("type=registry,ref={image}");
            (joined(base.clone(), options), base)
        }
    }
}

/// Replaces `$NAME` and `${NAME}`, as the shell does that Kamal hands the value to.
#[must_use]
pub fn expand_variables(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        expanded.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let (name, after) = match behind.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some((name, after)) => (name, after),
            None => behind.split_at(behind.find(|c| !is_name(c)).unwrap_or(behind.len())),
        };
        match environment.get(name) {
            Some(value) => expanded.push_str(value),
            None if name.is_empty() => expanded.push('$'),
            None => {}
        }
        rest = after;
    }
    expanded + rest
}

fn platforms(architectures: &[Architecture]) -> String {
    architectures.iter().map(|architecture| format!("linux/{architecture}")).collect::<Vec<_>>().join(",")
}

/// Makes a name of an address, as Kamal does.
fn slug(remote: &str) -> String {
    let is_kept = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    remote.chars().map(|c| if is_kept(c) { c } else { '-' }).collect()
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// Words of a command line with one more.
trait With {
    fn with(self, word: impl Into<String>) -> Self;
}

impl With for Vec<String> {
    fn with(mut self, word: impl Into<String>) -> Self {
        self.push(word.into());
        self
    }
}

#[cfg(test)]
mod tests;
