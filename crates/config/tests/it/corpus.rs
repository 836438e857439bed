//! Each `NAME.yml` in `tests/config/valid` and `invalid` has a snapshot beside it. `NAME.DEST.yml` is the file of a
//! destination of the same project.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use freehold_config::{ConfigErrors, Parsed, Source, Sources, parse};
use freehold_model::{Destination, Diagnose, ErrorKind, Project, Role};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

/// The files of one project.
struct Files {
    name: String,
    base: String,
    /// The destination's name and text.
    destination: Option<(String, String)>,
}

fn projects(folder: &Path) -> Vec<Files> {
    let mut names: Vec<String> = fs_err::read_dir(folder)
        .unwrap()
        .filter_map(|entry| {
            entry.unwrap().file_name().into_string().unwrap().strip_suffix(".yml").map(str::to_owned)
        })
        .collect();
    names.sort();
    let text = |name: &str| fs_err::read_to_string(folder.join(format!("{name}.yml"))).unwrap();
    let of_destination = |name: &str| {
        names
            .iter()
            .find_map(|other| Some((other.strip_prefix(&format!("{name}."))?.to_owned(), text(other))))
    };
    names
        .iter()
        .filter(|name| !name.contains('.'))
        .map(|name| Files { name: name.clone(), base: text(name), destination: of_destination(name) })
        .collect()
}

fn parse_texts(base: &str, destination: Option<&(String, String)>) -> Result<Parsed, ConfigErrors> {
    let environment = BTreeMap::from([("APP_HOST".to_owned(), "192.0.2.7".to_owned())]);
    let path = destination.map(|(name, _)| format!("config/deploy.{name}.yml")).unwrap_or_default();
    let sources = Sources {
        base: Source { path: "config/deploy.yml", text: base },
        destination: destination
            .map(|(name, text)| (Destination::parse(name.as_str()).unwrap(), Source { path: &path, text })),
        environment: &environment,
    };
    parse(&sources)
}

fn snapshot(folder: &Path, name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn every_mistake_is_told_with_its_place_and_its_remedy() {
    let folder = folder("invalid");
    let projects = projects(&folder);
    assert!(projects.len() >= 60, "{}", projects.len());
    for Files { name, base, destination } in projects {
        let errors = parse_texts(&base, destination.as_ref()).expect_err(&name);
        assert_eq!(errors.kind(), ErrorKind::Configuration);
        assert!(!errors.mistakes().is_empty(), "{name}");
        snapshot(&folder, &name, &errors.render());
    }
}

#[test]
fn valid_files_give_the_project_that_they_describe() {
    let folder = folder("valid");
    let projects = projects(&folder);
    assert!(projects.len() >= 30, "{}", projects.len());
    for Files { name, base, destination } in projects {
        let parsed =
            parse_texts(&base, destination.as_ref()).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        snapshot(&folder, &name, &describe(&parsed));
    }
}

/// Writes a project down, without what is the default.
fn describe(parsed: &Parsed) -> String {
    let plain = parse_texts("service: plain\nservers: [192.0.2.99]", None).unwrap().project;
    let plain_role = plain.roles.values().next().unwrap();
    let Project { service, destination, image, roles, primary_role, builder, ssh, proxy_run, boot, .. } =
        &parsed.project;
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn Debug, default: Option<&dyn Debug>| {
        if default.is_none_or(|default| format!("{default:?}") != format!("{value:?}")) {
            text.push_str(&format!("{name}: {value:?}\n"));
        }
    };
    line("service", service, None);
    line("destination", destination, Some(&plain.destination));
    line("image", image, None);
    line("primary role", primary_role, Some(&plain.primary_role));
    line("builder", builder, Some(&plain.builder));
    line("ssh", ssh, Some(&plain.ssh));
    line("proxy run", proxy_run, Some(&plain.proxy_run));
    line("boot", boot, Some(&plain.boot));
    line("retain containers", &parsed.project.retain_containers, Some(&plain.retain_containers));
    line("timeouts", &parsed.project.timeouts, Some(&plain.timeouts));
    line("secrets", &parsed.project.secrets_path, Some(&plain.secrets_path));
    line("hooks", &parsed.project.hooks, Some(&plain.hooks));
    for (name, role) in roles {
        let Role {
            proxy_service,
            hosts,
            command,
            proxy,
            volumes,
            labels,
            options,
            logging,
            stop_timeout,
            ..
        } = role;
        line(&format!("{name}"), &proxy_service, None);
        for host in hosts {
            line(&format!("{name} on {}", host.name), &host.environment, None);
        }
        line(&format!("{name} command"), command, Some(&plain_role.command));
        line(&format!("{name} proxy"), proxy, Some(&plain_role.proxy));
        line(&format!("{name} volumes"), volumes, Some(&plain_role.volumes));
        line(&format!("{name} labels"), labels, Some(&plain_role.labels));
        line(&format!("{name} options"), options, Some(&plain_role.options));
        line(&format!("{name} logging"), logging, Some(&plain_role.logging));
        line(&format!("{name} stop timeout"), stop_timeout, Some(&plain_role.stop_timeout));
    }
    for warning in &parsed.warnings {
        text.push_str(&format!("\nwarning: {}\n", warning.render()));
    }
    text
}
