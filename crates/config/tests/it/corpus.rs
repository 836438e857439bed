//! Each `NAME.yml` in `tests/config/valid` and `invalid` has a snapshot beside it. `NAME.DEST.yml` is the file of a
//! destination of the same project.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::{Path, PathBuf};

use freehold_config::{ConfigErrors, Parsed, Source, Sources, Surroundings, parse};
use freehold_model::{ContainerOptions, Destination, Diagnose, ErrorKind, Role, RoleName};

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

/// The project's folder that templates of the corpus see.
#[derive(Debug)]
struct Folder;

impl Surroundings for Folder {
    fn file(&self, path: &str) -> Result<Option<String>, String> {
        let text = match path {
            ".env" => "TOKEN=from-dotenv\n",
            "IMAGE" => "acme/from-file\n",
            "hosts.json" => "{\"web\": [\"192.0.2.1\", \"192.0.2.2\"]}",
            _ => return Ok(None),
        };
        Ok(Some(text.to_owned()))
    }

    fn command(&self, command: &str, _: &BTreeMap<String, String>) -> Result<String, String> {
        match command {
            "git rev-parse HEAD" => Ok("0a1b2c\n".to_owned()),
            _ => Err("there is no such program".to_owned()),
        }
    }

    fn ruby(&self, _: &str, _: &BTreeMap<String, String>) -> Option<Result<String, String>> {
        None
    }
}

fn parse_texts(base: &str, destination: Option<&(String, String)>) -> Result<Parsed, ConfigErrors> {
    let environment = BTreeMap::from([("APP_HOST".to_owned(), "192.0.2.7".to_owned())]);
    let path = destination.map(|(name, _)| format!("config/deploy.{name}.yml")).unwrap_or_default();
    let sources = Sources {
        base: Source { path: "config/deploy.yml", text: base },
        destination: destination
            .map(|(name, text)| (Destination::parse(name.as_str()).unwrap(), Source { path: &path, text })),
        environment: &environment,
        surroundings: &Folder,
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
    assert!(projects.len() >= 160, "{}", projects.len());
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
    assert!(projects.len() >= 95, "{}", projects.len());
    for Files { name, base, destination } in projects {
        let parsed =
            parse_texts(&base, destination.as_ref()).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        snapshot(&folder, &name, &describe(&parsed));
    }
}

/// Writes a project down, without what is the default.
fn describe(parsed: &Parsed) -> String {
    let plain = parse_texts("service: plain\nservers: [192.0.2.99]", None).unwrap().project;
    let project = &parsed.project;
    let mut lines = Lines::default();
    lines.add("service", &project.service, None);
    lines.add("destination", &project.destination, Some(&plain.destination));
    lines.add("image", &project.image, None);
    lines.add("digest", &project.digest, Some(&plain.digest));
    lines.add("images", &project.images, Some(&plain.images));
    lines.add("primary role", &project.primary_role, Some(&plain.primary_role));
    lines.add("registry", &project.registry, Some(&plain.registry));
    lines.add("builder", &project.builder, Some(&plain.builder));
    lines.add("ssh", &project.ssh, Some(&plain.ssh));
    lines.add("connections", &project.connections, Some(&plain.connections));
    lines.add("proxy runs", &project.proxy_runs, Some(&plain.proxy_runs));
    lines.add("canary", &project.canary, Some(&plain.canary));
    lines.add("boot", &project.boot, Some(&plain.boot));
    lines.add("retain containers", &project.retain_containers, Some(&plain.retain_containers));
    lines.add("timeouts", &project.timeouts, Some(&plain.timeouts));
    lines.add("secrets", &project.secrets_path, Some(&plain.secrets_path));
    lines.add("hooks", &project.hooks, Some(&plain.hooks));
    lines.add("error pages", &project.error_pages, Some(&plain.error_pages));
    lines.add("output", &project.output, Some(&plain.output));
    lines.add("addresses", &project.addresses, Some(&plain.addresses));
    for (name, words) in &project.aliases {
        lines.add(&format!("alias {name}"), words, None);
    }
    for job in project.jobs.values() {
        lines.add("job", job, None);
    }
    for (name, accessory) in &project.accessories {
        lines.add(&format!("accessory {name}"), accessory, None);
        lines.add(&format!("accessory {name} mounts"), &accessory.mounts(), Some(&Vec::<String>::new()));
        if let Some(registry) = project.accessory_registries.get(name) {
            lines.add(&format!("accessory {name} registry"), registry, None);
        }
    }
    for (name, role) in &project.roles {
        describe_role(name, role, &plain.roles[&plain.primary_role], &mut lines);
    }
    let loaded: Vec<&String> = parsed.loaded.keys().collect();
    lines.add("loaded", &loaded, Some(&Vec::<&String>::new()));
    let hosts = project.all_hosts();
    lines.add("hosts", &hosts, Some(&project.hosts()));
    for warning in &parsed.warnings {
        lines.0.push_str(&format!("\nwarning: {}\n", warning.render()));
    }
    lines.0
}

fn describe_role(name: &RoleName, role: &Role, plain: &Role, lines: &mut Lines) {
    lines.add(&format!("{name}"), &role.proxy_service, None);
    for host in &role.hosts {
        lines.add(&format!("{name} on {}", host.name), &host.environment, None);
    }
    lines.add(&format!("{name} command"), &role.command, Some(&plain.command));
    lines.add(&format!("{name} proxy"), &role.proxy, Some(&plain.proxy));
    lines.add(&format!("{name} volumes"), &role.volumes, Some(&plain.volumes));
    lines.add(&format!("{name} labels"), &role.labels, Some(&plain.labels));
    lines.add(&format!("{name} options"), &role.options, Some(&plain.options));
    lines.add(&format!("{name} logging"), &role.logging, Some(&plain.logging));
    lines.add(&format!("{name} stop timeout"), &role.stop_timeout, Some(&plain.stop_timeout));
    lines.add(&format!("{name} assets"), &role.asset_path, Some(&plain.asset_path));
    lines.add(&format!("{name} replicas"), &role.replicas, Some(&plain.replicas));
    lines.add(&format!("{name} release command"), &role.release_command, Some(&plain.release_command));
    lines.add(&format!("{name} image"), &role.image, Some(&plain.image));
}

/// A line for each value that is not the default.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &dyn Debug, default: Option<&dyn Debug>) {
        if default.is_none_or(|default| format!("{default:?}") != format!("{value:?}")) {
            // The many options that are not set say nothing.
            let unset = format!("options: {:?}", ContainerOptions::default());
            let value = format!("{value:?}").replace(&unset, "options: default");
            self.0.push_str(&format!("{name}: {value}\n"));
        }
    }
}

/// Rows of the specification that no deploy file alone shows: they are about commands, and tested where those are.
const NO_MATTER_OF_THE_FILE: [&str; 14] = [
    "§1 row 1",
    "§1 row 9",
    "§1 row 10",
    "§1 row 11",
    "§4 row 7",
    "§4 row 8",
    "§4 row 10",
    "§5 login row 1",
    "§6 row 22",
    "§6.1 row 1",
    "§6.2 row 1",
    "§7.1 row 10",
    "§7.1 row 11",
    // Every other file has keys that are known.
    "§1.12 row 7",
];

/// Rows about the file that have no wrong form of their own.
const NEVER_WRONG: [&str; 12] = [
    // The file of a destination that is missing is told before anything is parsed.
    "§1 row 2",
    "§3 row 5",
    "§4 row 4",
    "§4 row 5",
    "§4 row 9",
    // Builders that follow from other keys.
    "§6 row 16",
    "§6 row 17",
    "§6 row 18",
    "§6 row 19",
    "§6 row 20",
    "§6 row 21",
    // Which key wins.
    "§1 row 8",
];

/// Returns the rows that the files of a folder name.
fn named_in(folder: &Path) -> BTreeSet<String> {
    let mut rows = BTreeSet::new();
    for entry in fs_err::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yml") {
            continue;
        }
        let text = String::from_utf8_lossy(&fs_err::read(&path).unwrap()).into_owned();
        for part in text.split("kamal-compat ").skip(1) {
            let Some((section, rest)) = part.split_once(" row") else { continue };
            let end = rest.find(|c: char| !"s0123456789, ".contains(c)).unwrap_or(rest.len());
            let numbers =
                rest.get(..end).unwrap_or_default().trim_start_matches('s').split(',').map(str::trim);
            rows.extend(
                numbers.filter(|number| !number.is_empty()).map(|number| format!("{section} row {number}")),
            );
        }
    }
    rows
}

#[test]
fn every_row_about_the_file_has_one_that_is_right_and_one_that_is_wrong() {
    let table =
        fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../xtask/compat.txt")).unwrap();
    let is_meant = |row: &&str| {
        let section = row.trim_start_matches('§').split([' ', '.']).next().unwrap_or_default();
        section.parse::<u32>().is_ok_and(|section| section < 10) && !NO_MATTER_OF_THE_FILE.contains(row)
    };
    let rows: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with('§'))
        .filter_map(|line| Some(line.split_once(" | ")?.0))
        .filter(is_meant)
        .collect();
    assert!(rows.len() > 100, "{}", rows.len());
    let (valid, invalid) = (named_in(&folder("valid")), named_in(&folder("invalid")));
    let missing = |named: &BTreeSet<String>, excused: &[&str]| {
        rows.iter()
            .filter(|row| !named.contains(**row) && !excused.contains(row))
            .copied()
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!((missing(&valid, &[]), missing(&invalid, &NEVER_WRONG)), (String::new(), String::new()));
}
