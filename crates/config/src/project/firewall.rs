//! `firewall`: who may reach the hosts.

use std::collections::{BTreeMap, BTreeSet};

use freehold_model::{
    Accessory, AccessoryName, Firewall, FirewallInterfaces, FirewallPorts, FirewallRule, FirewallSource,
    HostName, InterfaceName, Network, PublishedPorts, Role, RoleName, UnguardedPublish, is_database_image,
};

use crate::field::{Field, Section};
use crate::report::{Finding, Report};
use crate::source::Place;
use crate::yaml::{Node, Value};

/// The port on which a tailnet's node listens unless it is told another.
const TAILNET_PORT: u16 = 41641;

/// What the section takes from the rest of the file.
pub(super) struct Context<'a> {
    pub(super) root: &'a Section<'a>,
    pub(super) roles: &'a BTreeMap<RoleName, Role>,
    pub(super) accessories: &'a BTreeMap<AccessoryName, Accessory>,
}

/// Reads `firewall`, and checks that no container publishes a port on every address of its host.
pub(super) fn read(field: &Field<'_>, context: &Context<'_>, report: &mut Report) -> Option<Firewall> {
    let section = field.section("firewall", report)?;
    let mut firewall = Firewall {
        ssh: section.get("ssh").map(|field| context.sources(&field, report)).unwrap_or_default(),
        tailnet: section.get("tailnet").and_then(|field| tailnet(&field, report)),
        metadata: section.get("metadata").and_then(|field| field.boolean(report)).unwrap_or_default(),
        ..Firewall::default()
    };
    if let Some(field) = section.get("interfaces") {
        firewall.interfaces = context.interfaces(&field, report);
    }
    if let Some(field) = section.get("allow") {
        let items = field.list(report).unwrap_or_default();
        firewall.allow = items.iter().filter_map(|item| context.rule(item, report)).collect();
    }
    if let Some(field) = section.get("publish") {
        context.published(&field, &mut firewall, report);
    }
    context.check(&firewall, report);
    Some(firewall)
}

/// `true`, or the port.
fn tailnet(field: &Field<'_>, report: &mut Report) -> Option<u16> {
    match field.boolean_value() {
        Some(true) => Some(TAILNET_PORT),
        Some(false) => None,
        None => field.port(report),
    }
}

fn interface(text: &str, field: &Field<'_>, report: &mut Report) -> Option<InterfaceName> {
    match InterfaceName::parse(text) {
        Ok(name) => Some(name),
        Err(error) => {
            report
                .mistake(field.mistake(error.to_string()).help("`ip -brief address` on the host lists them"));
            None
        }
    }
}

fn interface_names(field: &Field<'_>, report: &mut Report) -> BTreeSet<InterfaceName> {
    let texts = field.texts(report);
    if field.is_empty_list() {
        report.mistake(
            field.mistake("should not be empty").help("leave the key out for those of the default routes"),
        );
    }
    texts.iter().filter_map(|(item, text)| interface(text, item, report)).collect()
}

impl Context<'_> {
    fn hosts(&self) -> Vec<&HostName> {
        let roles = self.roles.values().flat_map(|role| &role.hosts).map(|host| &host.name);
        let mut hosts: Vec<&HostName> = Vec::new();
        for host in roles.chain(self.accessories.values().flat_map(|accessory| &accessory.hosts)) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        hosts
    }

    /// Returns the hosts that a role, an accessory or a host of the file stands for.
    fn named(&self, text: &str) -> Option<Vec<HostName>> {
        let role = RoleName::parse(text).ok().and_then(|name| self.roles.get(&name));
        if let Some(role) = role {
            return Some(role.hosts.iter().map(|host| host.name.clone()).collect());
        }
        let accessory = AccessoryName::parse(text).ok().and_then(|name| self.accessories.get(&name));
        if let Some(accessory) = accessory {
            return Some(accessory.hosts.clone());
        }
        self.hosts().into_iter().find(|host| host.as_str() == text).map(|host| vec![host.clone()])
    }

    fn known(&self) -> String {
        let roles = self.roles.keys().map(ToString::to_string);
        let accessories = self.accessories.keys().map(ToString::to_string);
        let hosts = self.hosts().into_iter().map(ToString::to_string);
        let all: Vec<String> =
            roles.chain(accessories).chain(hosts).map(|name| format!("`{name}`")).collect();
        format!("the roles, accessories and hosts are {}", all.join(", "))
    }

    /// Reads `any`, one source or a list of them; none is everywhere.
    fn sources(&self, field: &Field<'_>, report: &mut Report) -> Vec<FirewallSource> {
        let texts = match field.node.value {
            Value::List(_) => field.texts(report),
            _ => field.filled_text(report).map(|text| (field.clone(), text)).into_iter().collect(),
        };
        if field.is_empty_list() {
            report.mistake(
                field.mistake("should not be empty").help("write `any`, or from where it is let in"),
            );
        }
        if let [(_, text)] = texts.as_slice()
            && text == "any"
        {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (item, text) in texts {
            if text == "any" {
                report
                    .mistake(item.mistake("`any` leaves nothing to say beside it").help("write `from: any`"));
            } else if let Some(hosts) = self.named(&text) {
                found.extend(hosts.into_iter().map(FirewallSource::Host));
            } else {
                match Network::parse(&text) {
                    Ok(network) => found.push(FirewallSource::Network(network)),
                    Err(_) if text.contains('/') || text.parse::<std::net::IpAddr>().is_ok() => {
                        let finding = item.mistake(format!("`{text}` is not a range of addresses"));
                        report
                            .mistake(finding.help("write its first address: `10.0.0.0/24`, `2001:db8::/32`"));
                    }
                    Err(_) => {
                        let finding =
                            item.mistake(format!("`{text}` is no address, role, accessory or host"));
                        report.mistake(finding.help(self.known()));
                    }
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    fn rule(&self, item: &Field<'_>, report: &mut Report) -> Option<FirewallRule> {
        let section = item.section("firewall/allow", report)?;
        let Some(port) = section.get("port") else {
            let finding = Finding::new(item.node.at, &item.path, "missing required key `port`");
            report.mistake(finding.help("name what is let in: `port: 8443`, `port: 6000-6100/udp`"));
            return None;
        };
        let ports = port.parsed(report, |text| {
            let help = "write `8443`, `6000-6100` or `51820/udp`".to_owned();
            FirewallPorts::parse(text).map_err(|error| (error, help))
        });
        let from = section.get("from").map(|field| self.sources(&field, report)).unwrap_or_default();
        let hosts = section.get("on").map(|field| self.places(&field, report)).unwrap_or_default();
        Some(FirewallRule { ports: ports?, from, hosts })
    }

    /// Reads on which hosts a rule holds.
    fn places(&self, field: &Field<'_>, report: &mut Report) -> Vec<HostName> {
        let texts = match field.node.value {
            Value::List(_) => field.texts(report),
            _ => field.filled_text(report).map(|text| (field.clone(), text)).into_iter().collect(),
        };
        if field.is_empty_list() {
            report.mistake(field.mistake("should not be empty").help("leave the key out for every host"));
        }
        let mut hosts: Vec<HostName> = Vec::new();
        for (item, text) in texts {
            let Some(named) = self.named(&text) else {
                let finding = item.mistake(format!("`{text}` is no role, accessory or host"));
                report.mistake(finding.help(self.known()));
                continue;
            };
            for host in named {
                if !hosts.contains(&host) {
                    hosts.push(host);
                }
            }
        }
        hosts
    }

    fn interfaces(&self, field: &Field<'_>, report: &mut Report) -> FirewallInterfaces {
        if !field.is_map() {
            return match field.is_list() {
                true => FirewallInterfaces::Same(interface_names(field, report)),
                false => {
                    field.wrong_type("a list or a map", report);
                    FirewallInterfaces::default()
                }
            };
        }
        let mut each = BTreeMap::new();
        for (key, field) in field.map(report) {
            match self.hosts().into_iter().find(|host| host.as_str() == key) {
                Some(host) => {
                    each.insert(host.clone(), interface_names(&field, report));
                }
                None => {
                    let message = format!("`{key}` is no host of the file");
                    report.mistake(Finding::new(field.key_at, &field.path, message).help(self.known()));
                }
            }
        }
        FirewallInterfaces::Each(each)
    }

    /// Reads the names of what may publish ports everywhere.
    fn published(&self, field: &Field<'_>, firewall: &mut Firewall, report: &mut Report) {
        for (item, text) in field.texts(report) {
            let accessory =
                AccessoryName::parse(text.as_str()).ok().filter(|name| self.accessories.contains_key(name));
            let role = RoleName::parse(text.as_str()).ok().filter(|name| self.roles.contains_key(name));
            if accessory.is_none() && role.is_none() {
                let finding = item.mistake(format!("`{text}` is no role or accessory"));
                report.mistake(finding.help(self.known()));
            }
            firewall.published_accessories.extend(accessory);
            firewall.published_roles.extend(role);
        }
    }

    /// Refuses ports on every address, which Docker opens past most firewalls, and those for which there is no rule.
    fn check(&self, firewall: &Firewall, report: &mut Report) {
        for (text, path) in self.all_published() {
            self.refuse_unguarded(text, &path, report);
        }
        for (name, accessory) in self.accessories {
            let is_database = is_database_image(&accessory.image.to_string());
            let is_forced = firewall.published_accessories.contains(name) && !is_database;
            let force = if is_database { None } else { Some(name.as_str()) };
            let named = ["accessories", name.as_str()];
            for text in accessory.publish.iter().filter(|_| !is_forced) {
                self.refuse(text, &[&named[..], &["port"]].concat(), force, report);
            }
            for text in accessory.options.publish.iter().filter(|_| !is_forced) {
                self.refuse(text, &[&named[..], &["options", "publish"]].concat(), force, report);
            }
        }
        for (name, role) in self.roles.iter().filter(|(name, _)| !firewall.published_roles.contains(*name)) {
            for text in &role.options.publish {
                self.refuse(
                    text,
                    &["servers", name.as_str(), "options", "publish"],
                    Some(name.as_str()),
                    report,
                );
            }
        }
    }

    /// Everything that is published, with the path of its key.
    fn all_published(&self) -> Vec<(&String, Vec<&str>)> {
        let mut found = Vec::new();
        for (name, accessory) in self.accessories {
            let path = |rest: &[&'static str]| [&["accessories", name.as_str()], rest].concat();
            found.extend(accessory.publish.iter().map(|text| (text, path(&["port"]))));
            let more = accessory.options.publish.iter();
            found.extend(more.map(|text| (text, path(&["options", "publish"]))));
        }
        for (name, role) in self.roles {
            let path = vec!["servers", name.as_str(), "options", "publish"];
            found.extend(role.options.publish.iter().map(|text| (text, path.clone())));
        }
        found
    }

    fn refuse_unguarded(&self, text: &str, path: &[&str], report: &mut Report) {
        let Some(gap) = UnguardedPublish::of(text) else { return };
        let message = format!("publishes {gap}: the guard has no rule for `{text}`");
        let help = match gap {
            UnguardedPublish::ChosenPort => {
                let container = text.rsplit(':').next().unwrap_or(text);
                let port = container.split('/').next().unwrap_or(container);
                format!("say the address and the port of the host: `127.0.0.1:{port}:{container}`")
            }
            UnguardedPublish::Protocol => {
                "publish it at the loopback address, or use the host's network and close it there".to_owned()
            }
        };
        report.mistake(Finding::new(self.place(path), path.join("/"), message).help(help));
    }

    fn refuse(&self, text: &str, path: &[&str], force: Option<&str>, report: &mut Report) {
        let Some(published) = PublishedPorts::parse(text).filter(|published| published.address.is_none())
        else {
            return;
        };
        let ports = published.ports;
        let message = format!("publishes port {ports} on every address of the host");
        let rest = text.trim_start_matches("0.0.0.0:").trim_start_matches("[::]:");
        let mut help = format!("put an address in front: `127.0.0.1:{rest}`, or the host's private one");
        if let Some(name) = force {
            help = format!("{help}; or force it with `firewall: {{publish: [{name}]}}`");
        }
        report.mistake(Finding::new(self.place(path), path.join("/"), message).help(help));
    }

    /// Returns where a value of the file stands, or the nearest one above it.
    fn place(&self, path: &[&str]) -> Place {
        let mut node: &Node = self.root.field().node;
        for key in path {
            match node.get(key) {
                Some(entry) => node = &entry.value,
                None => break,
            }
        }
        node.at
    }
}
