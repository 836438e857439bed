use freehold_model::{Accessory, HostName, Project, RoleName};

use crate::arguments::GlobalArgs;
use crate::error::UsageError;

/// Leaves of a project what `--hosts`, `--roles` and `--primary` name. A role without a host is left out.
///
/// # Errors
/// [`UsageError`] when nothing matches. What accessories are concerned, see [`accessory_hosts`].
pub(crate) fn apply(project: &Project, arguments: &GlobalArgs) -> Result<Project, UsageError> {
    let mut chosen = project.clone();
    // A filter may name hosts that only accessories have.
    let is_of_accessory = |host: &HostName| matches_any(&arguments.hosts, host.as_str());
    let names_accessory =
        project.accessories.values().flat_map(|accessory| &accessory.hosts).any(is_of_accessory);
    if !arguments.roles.is_empty() {
        chosen.roles.retain(|name, _| matches_any(&arguments.roles, name.as_str()));
        if chosen.roles.is_empty() {
            let known: Vec<&str> = project.roles.keys().map(RoleName::as_str).collect();
            return Err(nothing("--roles", &arguments.roles, "roles", &known));
        }
        settle_primary(&mut chosen);
    }
    if arguments.primary {
        let primary = chosen.hosts().into_iter().next();
        keep_hosts(&mut chosen, |host| Some(host) == primary.as_ref());
    } else if !arguments.hosts.is_empty() {
        keep_hosts(&mut chosen, |host| matches_any(&arguments.hosts, host.as_str()));
        if chosen.roles.is_empty() && !names_accessory {
            let hosts = project.all_hosts();
            let known: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
            return Err(nothing("--hosts", &arguments.hosts, "hosts", &known));
        }
    }
    settle_primary(&mut chosen);
    Ok(chosen)
}

/// Returns the hosts of an accessory that `--hosts`, `--roles` and `--primary` leave.
pub(crate) fn accessory_hosts(
    project: &Project,
    accessory: &Accessory,
    arguments: &GlobalArgs,
) -> Vec<HostName> {
    let primary = project.all_hosts().into_iter().next();
    let in_roles = |host: &HostName| {
        let mut roles =
            project.roles.values().filter(|role| matches_any(&arguments.roles, role.name.as_str()));
        arguments.roles.is_empty() || roles.any(|role| role.hosts.iter().any(|entry| entry.name == *host))
    };
    let is_named = |host: &HostName| match arguments.primary {
        true => Some(host) == primary.as_ref(),
        false => arguments.hosts.is_empty() || matches_any(&arguments.hosts, host.as_str()),
    };
    accessory.hosts.iter().filter(|host| is_named(host) && in_roles(host)).cloned().collect()
}

/// Returns every host that the filters leave, also those of accessories, in the order of the file.
pub(crate) fn all_hosts(whole: &Project, chosen: &Project, arguments: &GlobalArgs) -> Vec<HostName> {
    let mut found = chosen.hosts();
    found.extend(
        whole.accessories.values().flat_map(|accessory| accessory_hosts(whole, accessory, arguments)),
    );
    whole.all_hosts().into_iter().filter(|host| found.contains(host)).collect()
}

/// Returns the hosts with anything behind the proxy that the filters leave, in the order of the file.
pub(crate) fn proxy_hosts(whole: &Project, chosen: &Project, arguments: &GlobalArgs) -> Vec<HostName> {
    let of_roles = chosen.roles.values().filter(|role| role.proxy.is_some());
    let mut found: Vec<HostName> =
        of_roles.flat_map(|role| &role.hosts).map(|entry| entry.name.clone()).collect();
    let accessories = whole.accessories.values().filter(|accessory| accessory.proxy.is_some());
    found.extend(accessories.flat_map(|accessory| accessory_hosts(whole, accessory, arguments)));
    whole.all_hosts().into_iter().filter(|host| found.contains(host)).collect()
}

fn nothing(option: &str, given: &[String], noun: &str, known: &[&str]) -> UsageError {
    UsageError::new(format!("no {noun} match `{option}={}`", given.join(",")))
        .help(format!("the {noun} are: {}", known.join(", ")))
}

fn keep_hosts(project: &mut Project, keep: impl Fn(&HostName) -> bool) {
    for role in project.roles.values_mut() {
        role.hosts.retain(|host| keep(&host.name));
    }
    project.roles.retain(|_, role| !role.hosts.is_empty());
}

/// The primary role of a part is the project's, if it is in the part, otherwise the first.
fn settle_primary(project: &mut Project) {
    if !project.roles.contains_key(&project.primary_role)
        && let Some(first) = project.roles.keys().next()
    {
        project.primary_role = first.clone();
    }
}

fn matches_any(patterns: &[String], text: &str) -> bool {
    patterns.iter().any(|pattern| {
        let pattern: Vec<char> = pattern.trim().chars().collect();
        let text: Vec<char> = text.chars().collect();
        matches(&pattern, &text)
    })
}

/// Matches `*`, `?` and `[a-z]` as a shell does.
fn matches(pattern: &[char], text: &[char]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some(('*', rest)) => {
            (0..=text.len()).any(|skip| text.get(skip..).is_some_and(|tail| matches(rest, tail)))
        }
        Some(('?', rest)) => text.split_first().is_some_and(|(_, tail)| matches(rest, tail)),
        Some(('[', rest)) => match (rest.iter().position(|c| *c == ']'), text.split_first()) {
            (Some(end), Some((first, tail))) => {
                let set = rest.get(..end).unwrap_or_default();
                is_in(set, *first) && matches(rest.get(end + 1..).unwrap_or_default(), tail)
            }
            _ => false,
        },
        Some((letter, rest)) => {
            text.split_first().is_some_and(|(first, tail)| first == letter && matches(rest, tail))
        }
    }
}

fn is_in(set: &[char], letter: char) -> bool {
    let (set, wanted) = match set.split_first() {
        Some(('!' | '^', rest)) => (rest, false),
        _ => (set, true),
    };
    let in_range = set.windows(3).any(|window| match window {
        [from, '-', to] => (*from..=*to).contains(&letter),
        _ => false,
    });
    (in_range || set.contains(&letter)) == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        let yes =
            [("web-*", "web-1"), ("web-[12]", "web-2"), ("web-[a-c]?", "web-b9"), ("*", ""), ("[!w]*", "db")];
        for (pattern, text) in yes {
            assert!(matches_any(&[pattern.to_owned()], text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("web", "web-1"), ("web-[12]", "web-3"), ("?", ""), ("[", "["), ("[!w]*", "web")]
        {
            assert!(!matches_any(&[pattern.to_owned()], text), "{pattern} {text}");
        }
    }
}
