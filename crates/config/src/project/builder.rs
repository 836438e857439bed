use std::path::PathBuf;

use freehold_model::{
    Architecture, BuildCache, BuildDriver, BuildPlace, Builder, Buildpacks, CacheKind, HostName,
    RegistryPlace, Repository, SecretName,
};

use crate::field::{Field, Section};
use crate::reference::nearest;
use crate::report::{Finding, Report};

/// What the builder takes from the rest of the file.
pub(super) struct Context<'a> {
    /// The hosts that may build.
    pub(super) hosts: &'a [&'a HostName],
    /// The project's image.
    pub(super) image: Option<&'a Repository>,
    pub(super) registry: Option<&'a RegistryPlace>,
}

/// Reads `builder`.
pub(super) fn read(field: Option<Field<'_>>, context: &Context<'_>, report: &mut Report) -> Builder {
    let builder = Builder::default();
    let Some(section) = field.and_then(|field| field.section("builder", report)) else { return builder };
    let mut builder = what(&section, builder, report);
    builder.architectures =
        section.get("arch").map(|field| architectures(&field, report)).unwrap_or_default();
    builder.ssh = section.get("ssh").and_then(|field| field.filled_text(report));
    builder.cache = section.get("cache").and_then(|field| cache(&field, context, report));
    builder.driver = section.get("driver").and_then(|field| driver(&field, report)).unwrap_or_default();
    builder.remote = section.get("remote").and_then(|field| remote(&field, context, report));
    builder.local = section.get("local").and_then(|field| field.boolean(report)).unwrap_or(true);
    builder.pack = section.get("pack").and_then(|field| pack(&field, report));
    builder.provenance = attestation(&section, "provenance", report);
    builder.sbom = attestation(&section, "sbom", report);
    builder.on = section.get("on").and_then(|field| place(&field, context.hosts, report)).unwrap_or_default();
    if let Some(field) = section.get("local").filter(|_| !builder.local && builder.remote.is_none()) {
        let finding = Finding::new(field.key_at, &field.path, "nothing may build: no `remote` is set");
        report.mistake(finding.help("set `builder: {remote: …}`, or remove `local: false`"));
    }
    if let Some(field) = section.get("pack").filter(|_| builder.architectures.len() > 1) {
        let message = "buildpacks build for one architecture only";
        let finding = Finding::new(field.key_at, &field.path, message);
        report.mistake(finding.help("keep one `arch`"));
    }
    builder
}

/// Reads what is built, the part of `builder` that each of several images may have of its own.
pub(super) fn what(section: &Section<'_>, mut builder: Builder, report: &mut Report) -> Builder {
    let mut text = |key: &str| section.get(key).and_then(|field| field.filled_text(report));
    builder.context = text("context").map(PathBuf::from).or(builder.context);
    builder.dockerfile = text("dockerfile").map_or(builder.dockerfile, PathBuf::from);
    builder.target = text("target").or(builder.target);
    for (name, value) in section.map("args", report) {
        builder.args.extend(value.text(report).map(|text| (name.to_owned(), text)));
    }
    if let Some(field) = section.get("secrets") {
        builder.secrets = secret_names(&field, report);
    }
    builder
}

fn cache(field: &Field<'_>, context: &Context<'_>, report: &mut Report) -> Option<BuildCache> {
    let section = field.section("builder/cache", report)?;
    let options = section.get("options").and_then(|field| field.filled_text(report));
    let image = section.get("image").and_then(|field| field.filled_text(report).map(|text| (field, text)));
    let Some(kind) = section.get("type") else {
        let finding = Finding::new(field.key_at, &field.path, "missing required key `type`");
        report.mistake(finding.help("write `gha`, `registry` or `local`"));
        return None;
    };
    let path = section.get("path").and_then(|field| field.filled_text(report).map(|text| (field, text)));
    let kind_name = kind.choice(&[("gha", "gha"), ("registry", "registry"), ("local", "local")], report)?;
    if let Some((field, _)) = path.as_ref().filter(|_| kind_name != "local") {
        let message = format!("a cache of the type `{kind_name}` has no folder");
        report.mistake(
            Finding::new(field.key_at, &field.path, message).help("remove it, or write `type: local`"),
        );
    }
    match (kind_name, path) {
        ("gha", _) => return Some(BuildCache { kind: CacheKind::Gha, options }),
        ("local", Some((_, path))) => {
            return Some(BuildCache { kind: CacheKind::Local(PathBuf::from(path)), options });
        }
        ("local", None) => {
            let finding =
                Finding::new(kind.node.at, &kind.path, "a cache of the type `local` needs a folder");
            report.mistake(finding.help("name it: `path: /var/cache/shop`"));
            return None;
        }
        _ => {}
    }
    let prefix = context.registry.and_then(RegistryPlace::prefix).map(|prefix| format!("{prefix}/"));
    let repository = match image {
        Some((field, text)) => {
            let name = format!("{}{text}", prefix.unwrap_or_default());
            match Repository::parse(name) {
                Ok(repository) => repository,
                Err(error) => {
                    report.mistake(field.mistake(error.to_string()));
                    return None;
                }
            }
        }
        // The project's image has the server in front already.
        None => Repository::parse(format!("{}-build-cache", context.image?)).ok()?,
    };
    Some(BuildCache { kind: CacheKind::Registry(repository), options })
}

fn driver(field: &Field<'_>, report: &mut Report) -> Option<BuildDriver> {
    let text = field.filled_text(report)?;
    Some(match text.split_once(' ') {
        Some(("cloud", name))
            if name.split('/').count() == 2 && name.split('/').all(|part| !part.is_empty()) =>
        {
            BuildDriver::Cloud(name.to_owned())
        }
        Some(_) => {
            let finding = field.mistake(format!("`{text}` is not a driver"));
            report.mistake(finding.help("write `docker-container`, `docker` or `cloud ORGANISATION/NAME`"));
            return None;
        }
        None if text == "docker" => BuildDriver::Docker,
        None if text == "docker-container" => BuildDriver::DockerContainer,
        None => BuildDriver::Named(text),
    })
}

fn remote(field: &Field<'_>, context: &Context<'_>, report: &mut Report) -> Option<String> {
    let text = field.filled_text(report)?;
    let (scheme, rest) = text.split_once("://").unwrap_or_default();
    if !["ssh", "tcp", "unix", "http", "https"].contains(&scheme) || rest.is_empty() {
        let finding = field.mistake(format!("`{text}` is not the address of an engine"));
        report.mistake(finding.help("write it like `ssh://user@host` or `tcp://host:2376`"));
        return None;
    }
    if scheme != "ssh" && matches!(context.registry, Some(RegistryPlace::Local { .. })) {
        let message = "a registry on this machine can be reached from another engine through SSH only";
        report.mistake(field.mistake(message).help("write the engine's address as `ssh://user@host`"));
    }
    Some(text)
}

fn pack(field: &Field<'_>, report: &mut Report) -> Option<Buildpacks> {
    let section = field.section("builder/pack", report)?;
    let buildpacks = section.get("buildpacks").map(|field| field.texts(report)).unwrap_or_default();
    let Some(builder) = section.get("builder") else {
        report.mistake(Finding::new(field.key_at, &field.path, "missing required key `builder`"));
        return None;
    };
    let builder = builder.filled_text(report)?;
    Some(Buildpacks { builder, buildpacks: buildpacks.into_iter().map(|(_, text)| text).collect() })
}

/// Reads a text or a boolean; `false` is what happens anyway.
fn attestation(section: &Section<'_>, key: &str, report: &mut Report) -> Option<String> {
    let field = section.get(key)?;
    if field.is_list() || field.is_map() || field.node.is_null() {
        field.wrong_type("a string or a boolean", report);
        return None;
    }
    field.filled_text(report)
}

fn architectures(field: &Field<'_>, report: &mut Report) -> Vec<Architecture> {
    let names = if field.is_list() {
        field.texts(report)
    } else if field.is_map() {
        field.wrong_type("a string or a list", report);
        Vec::new()
    } else {
        field.filled_text(report).map(|text| (field.clone(), text)).into_iter().collect()
    };
    let mut found = Vec::new();
    for (item, name) in names {
        match Architecture::from_name(&name) {
            Some(architecture) if found.contains(&architecture) => {
                report.mistake(item.mistake(format!("the architecture `{name}` is listed twice")));
            }
            Some(architecture) => found.push(architecture),
            None => {
                let finding = item.mistake(format!("freehold does not run on the architecture `{name}`"));
                report.mistake(finding.help("write `amd64` or `arm64`"));
            }
        }
    }
    found
}

/// Reads a list of the names of secrets. A text that is no name may be a secret itself and is not repeated.
pub(super) fn secret_names(field: &Field<'_>, report: &mut Report) -> Vec<SecretName> {
    let mut names = Vec::new();
    for (item, text) in field.texts(report) {
        match SecretName::parse(text) {
            Ok(name) => names.push(name),
            Err(_) => {
                let finding =
                    Finding::new(item.node.at.hidden(), &item.path, "this is not the name of a secret");
                report.mistake(finding.help("write the name, and the value in `.kamal/secrets`"));
            }
        }
    }
    names
}

fn place(field: &Field<'_>, hosts: &[&HostName], report: &mut Report) -> Option<BuildPlace> {
    let text = field.filled_text(report)?;
    if text == "local" {
        return Some(BuildPlace::Local);
    }
    let host = hosts.iter().find(|host| host.as_str() == text);
    if host.is_none() {
        let finding = field.mistake(format!("`{text}` is not a host of the project"));
        let names = hosts.iter().map(|host| host.as_str()).chain(["local"]);
        report.mistake(match nearest(&text, names) {
            Some(near) => finding.help(format!("did you mean `{near}`?")),
            None => finding.help("write `local`, or a host that is listed under `servers`"),
        });
    }
    host.map(|host| BuildPlace::Host((*host).clone()))
}
