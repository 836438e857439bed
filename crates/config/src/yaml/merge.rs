use super::{Entry, Node, Value};

/// Merges a later layer over an earlier one (kamal-compat §1.3): maps key by key, anything else is replaced.
///
/// Of keys that cannot stand together, such as `host` and `hosts` of a `proxy`, a later one displaces the others of
/// the earlier layer.
pub(crate) fn merge(base: Node, over: Node) -> Node {
    merge_under(&[], base, over)
}

/// Where a proxied role or an accessory runs.
const PROXY_HOSTS: [&str; 2] = ["host", "hosts"];
const ACCESSORY_HOSTS: [&str; 6] = ["host", "hosts", "role", "roles", "tag", "tags"];

fn merge_under(path: &[&str], base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (Value::Map(mut entries), Value::Map(later)) => {
            match path {
                [.., "proxy"] => displace(&mut entries, &later, &PROXY_HOSTS),
                ["accessories", _] => displace(&mut entries, &later, &ACCESSORY_HOSTS),
                _ => {}
            }
            for entry in later {
                put(path, &mut entries, entry);
            }
            Node { at: base.at, value: Value::Map(entries) }
        }
        (_, value) => Node { at: over.at, value },
    }
}

fn put(path: &[&str], entries: &mut Vec<Entry>, later: Entry) {
    match entries.iter().position(|entry| entry.key == later.key) {
        Some(index) => {
            let old = entries.remove(index);
            let mut below = path.to_vec();
            below.push(&later.key);
            let value = merge_under(&below, old.value, later.value);
            entries.insert(index, Entry { key: later.key, key_at: later.key_at, value });
        }
        None => entries.push(later),
    }
}

/// Removes the keys of a group from a layer if a later one has others of the group.
fn displace(entries: &mut Vec<Entry>, later: &[Entry], group: &[&str]) {
    let is_later = |key: &str| later.iter().any(|entry| entry.key == key);
    if group.iter().any(|key| is_later(key)) {
        entries.retain(|entry| !group.contains(&entry.key.as_str()) || is_later(&entry.key));
    }
}
