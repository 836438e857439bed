//! From the merged tree to a [`Project`]: one module for each section of the file.

mod accessory;
mod accessory_file;
mod authority;
mod boot;
mod builder;
mod canary;
mod container;
mod environment;
mod firewall;
mod image;
mod logging;
mod proxy;
mod proxy_content;
mod proxy_run;
mod registry;
mod root;
mod schedule;
mod servers;
mod setting;
mod ssh;
mod traffic;
mod trust;

use std::collections::BTreeMap;

use freehold_model::{PlainSecret, Project};

use crate::mistake::{ConfigErrors, Mistake};
use crate::plain::Plain;
use crate::report::{Finding, Report};
use crate::source::{Place, Source, Sources};
use crate::template::render;
use crate::yaml::{Node, Value, build, merge};

/// A project, and what is surprising about its files though not wrong.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The project.
    pub project: Project,
    /// In the order of file and position.
    pub warnings: Vec<Mistake>,
    /// The variables that templates loaded into the environment, which the secrets files see too.
    pub loaded: BTreeMap<String, PlainSecret>,
    /// The merged files as they are written.
    pub merged: Plain,
}

/// Reads the deploy file and, if there is one, the destination's file over it.
///
/// # Errors
/// [`ConfigErrors`] with every mistake of both files.
pub fn parse(sources: &Sources<'_>) -> Result<Parsed, ConfigErrors> {
    let mut report = Report::default();
    let mut files = vec![sources.base];
    files.extend(sources.destination.as_ref().map(|(_, source)| *source));
    let mut environment = sources.environment.clone();
    environment.remove(DESTINATION);
    let destination = sources.destination.as_ref().map(|(destination, _)| destination);
    environment.extend(destination.map(|name| (DESTINATION.to_owned(), name.to_string())));
    let before = environment.clone();
    let project = read(sources, &files, &mut environment, &mut report);
    let (mut mistakes, warnings) = report.into_located(&files);
    match project {
        Some((project, merged)) if mistakes.is_empty() => {
            environment.retain(|name, value| before.get(name) != Some(value));
            let loaded =
                environment.into_iter().map(|(name, value)| (name, PlainSecret::new(value))).collect();
            Ok(Parsed { project, warnings, loaded, merged })
        }
        _ => {
            if mistakes.is_empty() {
                let message =
                    "the file could not be read, and freehold cannot say why: please report this as a bug";
                mistakes.push(Mistake::locate(Place::file(0), &sources.base, ("", message), None));
            }
            Err(ConfigErrors::new(mistakes))
        }
    }
}

/// The variable that tells templates the destination.
const DESTINATION: &str = "KAMAL_DESTINATION";

fn read(
    sources: &Sources<'_>,
    files: &[Source<'_>],
    environment: &mut BTreeMap<String, String>,
    report: &mut Report,
) -> Option<(Project, Plain)> {
    let destination = sources.destination.as_ref().map(|(destination, _)| destination);
    let mut trees = Vec::new();
    for (index, source) in files.iter().enumerate() {
        // An expression without a value leaves a hole, and what YAML makes of that says nothing about the file.
        let rendered = render(source.text, index, environment, sources.surroundings, report);
        let tree = rendered.and_then(|rendered| build(&rendered, index, report));
        trees.push(tree.and_then(|node| layer(node, index, report)));
    }
    // With one file unreadable, what the other one lacks cannot be told.
    let root = trees.into_iter().collect::<Option<Vec<Node>>>()?.into_iter().reduce(merge)?;
    Some((root::project(&root, destination, report)?, Plain::of(&root)))
}

/// Checks that a file is a map, and merges its `x-freehold` over its other keys.
fn layer(node: Node, file: usize, report: &mut Report) -> Option<Node> {
    if node.is_null() {
        return Some(Node::empty_map(Place::file(file)));
    }
    let at = node.at;
    let Value::Map(mut entries) = node.value else {
        let message = format!("a deploy file should be a map, not {}", node.describe());
        report.mistake(Finding::new(at, "", message).help("start with `service: NAME`"));
        return None;
    };
    let ours = entries.iter().position(|entry| entry.key == "x-freehold").map(|index| entries.remove(index));
    let base = Node { at, value: Value::Map(entries) };
    match ours {
        Some(ours) if ours.value.entries().is_some() => Some(merge(base, ours.value)),
        Some(ours) => {
            let message = format!("should be a map, not {}", ours.value.describe());
            report.mistake(Finding::new(ours.value.at, "x-freehold", message));
            None
        }
        None => Some(base),
    }
}
