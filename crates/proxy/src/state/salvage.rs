//! What is left of a state file that is damaged, and the copy that fills the gaps.
//!
//! The file itself keeps the form that every version reads. The copy beside it has one line for each service, with a
//! checksum, so that a line that was changed is told from one that is whole, and a file that was cut short from a whole one.

use std::collections::BTreeMap;

use freehold_model::ProxyServiceName;
use freehold_wire::ServiceSnapshot;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FORMAT, State};

/// How many hexadecimal digits of a checksum are kept: enough against accidents.
const SUM_DIGITS: usize = 16;

/// The first line of the copy.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    generation: u64,
    fences: BTreeMap<ProxyServiceName, u64>,
    /// The checksum of the file that it is a copy of.
    file: String,
    services: Vec<ProxyServiceName>,
}

/// A state that was put together, and what is not in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Salvaged {
    pub(crate) state: State,
    /// The services that are lost, by name, or by what is known of them.
    pub(crate) lost: Vec<String>,
}

fn sum(text: &[u8]) -> String {
    let mut digits = String::with_capacity(SUM_DIGITS);
    for byte in Sha256::digest(text).iter().take(SUM_DIGITS / 2) {
        digits.push_str(&format!("{byte:02x}"));
    }
    digits
}

/// Writes the copy of a file with a state.
pub(super) fn write_copy(state: &State, file: &[u8]) -> serde_json::Result<Vec<u8>> {
    let header = Header {
        format: FORMAT,
        generation: state.generation,
        fences: state.fences.clone(),
        file: sum(file),
        services: state.services.iter().map(|service| service.name.clone()).collect(),
    };
    let mut copy = Vec::new();
    let mut line = |text: Vec<u8>| {
        copy.extend_from_slice(sum(&text).as_bytes());
        copy.push(b' ');
        copy.extend_from_slice(&text);
        copy.push(b'\n');
    };
    line(serde_json::to_vec(&header)?);
    for service in &state.services {
        line(serde_json::to_vec(service)?);
    }
    Ok(copy)
}

/// What a copy still says.
#[derive(Debug, Default)]
pub(super) struct Copy {
    header: Option<Header>,
    services: BTreeMap<ProxyServiceName, ServiceSnapshot>,
}

impl Copy {
    /// Reads the lines that are whole.
    pub(super) fn read(text: &[u8]) -> Self {
        let mut copy = Self::default();
        let whole = text.split(|byte| *byte == b'\n').filter_map(|line| {
            let (found, text) = line.split_at_checked(SUM_DIGITS)?;
            let text = text.strip_prefix(b" ")?;
            (sum(text).as_bytes() == found).then_some(text)
        });
        for text in whole {
            if let Ok(service) = serde_json::from_slice::<ServiceSnapshot>(text) {
                copy.services.insert(service.name.clone(), service);
            } else if let Ok(header) = serde_json::from_slice::<Header>(text) {
                copy.header = Some(header);
            }
        }
        copy
    }

    /// Says whether the file that this is a copy of is the one at hand, to the last byte.
    pub(super) fn is_of(&self, file: &[u8]) -> bool {
        self.header.as_ref().is_some_and(|header| header.file == sum(file))
    }

    /// Says whether it was written after a state that could be read.
    pub(super) fn is_newer_than(&self, state: &State) -> bool {
        self.header.as_ref().is_some_and(|header| header.generation >= state.generation)
    }
}

/// Puts together what is left: the copy is believed first, because what it says is checked.
pub(super) fn salvage(file: &[u8], copy: Copy) -> Option<Salvaged> {
    let parts = Parts::find(file);
    let (mut services, mut lost) = (copy.services, Vec::new());
    match &copy.header {
        Some(header) => {
            services.retain(|name, _| header.services.contains(name));
            for name in &header.services {
                if !services.contains_key(name) {
                    match parts.services.iter().find(|service| service.name == *name) {
                        Some(service) => drop(services.insert(name.clone(), service.clone())),
                        None => lost.push(name.to_string()),
                    }
                }
            }
        }
        None => {
            for service in parts.services {
                services.entry(service.name.clone()).or_insert(service);
            }
            lost.extend(
                parts.lost.into_iter().filter(|name| !services.keys().any(|found| found.as_str() == name)),
            );
        }
    }
    if services.is_empty() && copy.header.is_none() {
        return None;
    }
    let (generation, fences) = match copy.header {
        Some(header) => (header.generation, header.fences),
        None => (parts.generation, parts.fences),
    };
    let highest = services.values().map(|service| service.generation).max().unwrap_or_default();
    let state = State::new(generation.max(highest), fences, services.into_values().collect());
    Some(Salvaged { state, lost })
}

/// What can be read of a file in the form that every version knows, without any of it being checked.
#[derive(Debug, Default)]
struct Parts {
    generation: u64,
    fences: BTreeMap<ProxyServiceName, u64>,
    services: Vec<ServiceSnapshot>,
    lost: Vec<String>,
}

/// How each service begins, as the file is laid out.
const SERVICE_START: &[u8] = b"\n    {";

impl Parts {
    fn find(file: &[u8]) -> Self {
        let mut parts = Self {
            generation: after(file, b"\n  \"generation\":").unwrap_or_default(),
            fences: after(file, b"\n  \"fences\":").unwrap_or_default(),
            ..Self::default()
        };
        let mut rest = position(file, b"\n  \"services\":").and_then(|at| file.get(at..)).unwrap_or(file);
        while let Some(at) = position(rest, SERVICE_START) {
            let text = rest.get(at + SERVICE_START.len() - 1..).unwrap_or_default();
            // It reaches to the next one, or to the end of the list.
            let end = position(text, SERVICE_START).unwrap_or(text.len());
            let own = text.get(..end).unwrap_or_default();
            match first_value::<ServiceSnapshot>(own) {
                Some(service) => parts.services.push(service),
                None => parts.lost.push(after::<String>(own, b"\"name\":").unwrap_or_else(|| {
                    format!("the {}th of the file", parts.services.len() + parts.lost.len() + 1)
                })),
            }
            rest = text.get(end..).unwrap_or_default();
        }
        parts
    }
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn first_value<T: serde::de::DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::Deserializer::from_slice(text).into_iter().next()?.ok()
}

/// Reads the value behind a key.
fn after<T: serde::de::DeserializeOwned>(text: &[u8], key: &[u8]) -> Option<T> {
    first_value(text.get(position(text, key)? + key.len()..)?)
}
