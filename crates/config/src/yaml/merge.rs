use super::{Entry, Node, Value};

/// Merges a later layer over an earlier one (kamal-compat §1.3): maps key by key, anything else is replaced.
///
/// In a `proxy` map a later `host` or `hosts` displaces the earlier layer's other one: the two cannot stand together.
pub(crate) fn merge(base: Node, over: Node) -> Node {
    merge_under("", base, over)
}

fn merge_under(name: &str, base: Node, over: Node) -> Node {
    match (base.value, over.value) {
        (Value::Map(mut entries), Value::Map(later)) => {
            if name == "proxy" {
                displace_host(&mut entries, &later);
            }
            for entry in later {
                put(&mut entries, entry);
            }
            Node { at: base.at, value: Value::Map(entries) }
        }
        (_, value) => Node { at: over.at, value },
    }
}

fn put(entries: &mut Vec<Entry>, later: Entry) {
    match entries.iter().position(|entry| entry.key == later.key) {
        Some(index) => {
            let old = entries.remove(index);
            let value = merge_under(&later.key, old.value, later.value);
            entries.insert(index, Entry { key: later.key, key_at: later.key_at, value });
        }
        None => entries.push(later),
    }
}

fn displace_host(entries: &mut Vec<Entry>, later: &[Entry]) {
    let has = |key: &str| later.iter().any(|entry| entry.key == key);
    if has("hosts") {
        entries.retain(|entry| entry.key != "host");
    }
    if has("host") {
        entries.retain(|entry| entry.key != "hosts");
    }
}
