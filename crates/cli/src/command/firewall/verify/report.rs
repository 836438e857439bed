//! What `firewall verify` shows.

use std::collections::BTreeMap;

use freehold_fleet::Reachability;
use freehold_model::{Diagnose, ErrorKind, Evidence, HostName};
use serde::Serialize;

use super::Found;
use crate::context::Context;
use crate::error::CommandError;
use crate::guard::Survey;
use crate::guard::probe::{Check, Gap, Meaning, gaps, word};
use crate::guard::short::{counted, tell};
use crate::ui::{Line, Table, Tone, counted_items};

/// Shows what was found.
///
/// # Errors
/// When something differs from the deploy file, and when nothing could be shown of a host.
pub(super) fn show(
    context: &Context,
    survey: &Survey,
    hosts: Vec<(HostName, Found)>,
) -> Result<(), CommandError> {
    let (differs, unproven) = (differs(survey, &hosts), unproven(&hosts));
    context.ui.result(&lines(context, &hosts));
    let is_good = differs.exposed.is_empty() && differs.blocked.is_empty();
    let as_expected = is_good && unproven.names.is_empty();
    let hosts = hosts.into_iter().map(|(name, found)| verified(&name, found)).collect();
    context.ui.result_json(context.command, &Verified { as_expected, hosts });
    match (is_good, as_expected) {
        (_, true) => Ok(()),
        (true, false) => Err(unproven.into()),
        (false, false) => Err(differs.into()),
    }
}

fn unproven(hosts: &[(HostName, Found)]) -> Unproven {
    let mut unproven = Unproven { names: Vec::new(), why: Vec::new() };
    for (name, found) in hosts.iter().filter(|(_, found)| !found.is_proven()) {
        unproven.names.push(format!("host `{name}`"));
        let gaps = gaps(&found.checks);
        if gaps.is_empty() && found.checks.is_empty() {
            unproven.why.push(format!("{name}: there is no place to try it from"));
        }
        let tell = |gap: Gap| format!("{name}: {} from {}: {}", gap.kind, gap.from, gap.why);
        unproven.why.extend(gaps.into_iter().map(tell));
    }
    unproven
}

/// Something is not as the deploy file says.
#[derive(Debug, thiserror::Error)]
#[error("{} not as the deploy file says", counted(.exposed.len() + .blocked.len()))]
struct Differs {
    exposed: Vec<String>,
    blocked: Vec<String>,
    firewalls: BTreeMap<HostName, Vec<String>>,
}

/// Of some host nothing was shown.
#[derive(Debug, thiserror::Error)]
#[error("nothing could be proven of {}", names.join(", "))]
struct Unproven {
    names: Vec<String>,
    why: Vec<String>,
}

impl Diagnose for Unproven {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn evidence(&self) -> Vec<Evidence> {
        vec![Evidence { title: "what could not be tried".to_owned(), lines: self.why.clone() }]
    }

    fn help(&self) -> Vec<String> {
        vec!["try from a host that reaches it: `freehold firewall verify --from HOST`".to_owned()]
    }

    fn is_in_result(&self) -> bool {
        true
    }
}

impl Diagnose for Differs {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Failed
    }

    fn evidence(&self) -> Vec<Evidence> {
        let of =
            |title: &str, lines: &Vec<String>| Evidence { title: title.to_owned(), lines: lines.clone() };
        vec![of("open, and should be closed", &self.exposed), of("closed, and should be open", &self.blocked)]
    }

    fn help(&self) -> Vec<String> {
        let mut help = Vec::new();
        if !self.exposed.is_empty() {
            help.push(
                "close everything that the deploy file does not name: `freehold firewall apply`".to_owned(),
            );
            help.push("or publish the port at a private address: `port: \"10.0.0.5:5432:5432\"`".to_owned());
            help.push("or let it in: `firewall: {allow: [{port: 5432, from: any}]}`".to_owned());
        }
        if !self.blocked.is_empty() {
            for (host, names) in &self.firewalls {
                help.push(format!(
                    "{} on host `{host}` may drop it: allow it there, too",
                    names.join(" and ")
                ));
            }
            help.push("see what the guard of the host has dropped: `freehold firewall show`".to_owned());
        }
        help
    }

    fn is_in_result(&self) -> bool {
        true
    }
}

#[derive(Debug, Serialize)]
struct Verified {
    as_expected: bool,
    hosts: Vec<VerifiedHost>,
}

#[derive(Debug, Serialize)]
struct VerifiedHost {
    host: String,
    /// Whether anything was shown.
    proven: bool,
    ports_left_out: usize,
    not_proven: Vec<Unprovable>,
    checks: Vec<VerifiedPort>,
}

/// A kind of tries from one place that told nothing.
#[derive(Debug, Serialize)]
struct Unprovable {
    from: String,
    kind: String,
    why: String,
}

#[derive(Debug, Serialize)]
struct VerifiedPort {
    from: String,
    protocol: String,
    address: String,
    port: u16,
    seen: &'static str,
    expected: &'static str,
    verdict: &'static str,
    behind: Option<String>,
    /// The database that answers, where it should not.
    database: Option<String>,
    /// Why it was not checked, if so.
    why: Option<&'static str>,
}

fn differs(survey: &Survey, hosts: &[(HostName, Found)]) -> Differs {
    let mut differs = Differs { exposed: Vec::new(), blocked: Vec::new(), firewalls: BTreeMap::new() };
    for (name, found) in hosts {
        for (from, check) in &found.checks {
            match check.meaning {
                Meaning::Exposed => differs.exposed.push(tell(name, from, check)),
                Meaning::Blocked => {
                    differs.blocked.push(tell(name, from, check));
                    let beside = survey.state(name).map(|state| state.firewalls.clone()).unwrap_or_default();
                    if !beside.is_empty() {
                        differs.firewalls.insert(name.clone(), beside);
                    }
                }
                Meaning::Expected | Meaning::Free | Meaning::NotChecked => {}
            }
        }
    }
    differs
}

/// Shows what is open and what is not as it should be; the rest is counted, but for `--verbose`.
fn lines(context: &Context, hosts: &[(HostName, Found)]) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, found) in hosts {
        let mut table = Table::new(["from", "address", "seen", "", "behind"]);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (from, check) in &found.checks {
            let is_telling = check.seen == Reachability::Open || check.meaning.is_bad();
            if !is_telling && !context.arguments.verbose {
                let what = match check.meaning {
                    Meaning::Expected => "closed as expected".to_owned(),
                    _ => format!("{}, {}", word(check.seen), check.meaning.word()),
                };
                *counts.entry(what).or_default() += 1;
                continue;
            }
            let tone = match check.meaning {
                Meaning::Exposed | Meaning::Blocked => Tone::Bad,
                Meaning::Expected => Tone::Good,
                Meaning::Free | Meaning::NotChecked => Tone::Faint,
            };
            let address = std::net::SocketAddr::new(check.target.address, check.target.port);
            table.row([
                (Tone::Plain, from.clone()),
                (Tone::Plain, format!("{address}/{}", check.target.protocol)),
                (Tone::Plain, word(check.seen).to_owned()),
                (tone, check.meaning.word().to_owned()),
                (Tone::Faint, behind(check)),
            ]);
        }
        lines.push(Line::new().add(Tone::Strong, name.as_str()));
        if !table.is_empty() {
            lines.extend(table.lines());
        }
        let counts: Vec<String> = counts.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
        if !counts.is_empty() {
            lines.push(Line::new().add(Tone::Faint, counts.join("; ")));
        }
        for gap in gaps(&found.checks) {
            let text = format!("not proven from {}: {} ({})", gap.from, gap.kind, gap.why);
            lines.push(Line::new().add(Tone::Faint, text));
        }
        if !found.is_proven() {
            lines.push(Line::new().add(Tone::Bad, "nothing could be proven of it"));
        }
        if found.left_out > 0 {
            let text = format!("{} not tried: there are too many", counted_items(found.left_out, "port"));
            lines.push(Line::new().add(Tone::Warn, text));
        }
        lines.push(Line::new());
    }
    lines
}

/// Says what answers at a port.
fn behind(check: &Check) -> String {
    let database = check.database.as_ref().map(|answer| format!("{answer}, answers"));
    check.behind.clone().into_iter().chain(database).collect::<Vec<_>>().join("; ")
}

fn verified(name: &HostName, found: Found) -> VerifiedHost {
    let port = |(from, check): (String, Check)| VerifiedPort {
        from,
        protocol: check.target.protocol.to_string(),
        address: check.target.address.to_string(),
        port: check.target.port,
        seen: word(check.seen),
        expected: check.expected,
        verdict: check.meaning.word(),
        behind: check.behind,
        database: check.database.map(|answer| answer.to_string()),
        why: check.why,
    };
    let gaps = gaps(&found.checks).into_iter();
    VerifiedHost {
        host: name.to_string(),
        proven: found.is_proven(),
        not_proven: gaps.map(|Gap { from, kind, why }| Unprovable { from, kind, why }).collect(),
        ports_left_out: found.left_out,
        checks: found.checks.into_iter().map(port).collect(),
    }
}

#[cfg(test)]
mod tests {
    use freehold_fleet::ReachTarget;
    use freehold_model::PortProtocol;

    use super::*;

    fn found(checks: &[(Reachability, Meaning)]) -> Found {
        let check = |(number, (seen, meaning)): (u16, &(Reachability, Meaning))| {
            let target =
                ReachTarget { protocol: PortProtocol::Tcp, address: [10, 0, 0, 5].into(), port: number };
            let why = (*meaning == Meaning::NotChecked).then_some("no route to it");
            let check = Check {
                target,
                seen: *seen,
                expected: "closed",
                behind: None,
                meaning: *meaning,
                why,
                database: None,
            };
            ("this computer".to_owned(), check)
        };
        Found { checks: (1..).zip(checks).map(check).collect(), left_out: 0 }
    }

    #[test]
    fn a_host_of_which_nothing_was_proven_is_a_failure() {
        let host = |name: &str| HostName::parse(name).unwrap();
        let lost = [(Reachability::NoRoute, Meaning::NotChecked); 2];
        let hosts = [
            (host("good"), found(&[(Reachability::Filtered, Meaning::Expected), lost[0]])),
            (host("far"), found(&lost)),
            (host("alone"), found(&[])),
            (host("free"), found(&[(Reachability::Open, Meaning::Free)])),
        ];
        let unproven = unproven(&hosts);
        assert_eq!(unproven.names, ["host `far`", "host `alone`", "host `free`"]);
        assert_eq!(
            unproven.why,
            [
                "far: TCP over IPv4 from this computer: no route to it",
                "alone: there is no place to try it from"
            ]
        );
        assert_eq!(unproven.kind(), ErrorKind::Failed);
        assert_eq!(unproven.to_string(), "nothing could be proven of host `far`, host `alone`, host `free`");
    }
}
