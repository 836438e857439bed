use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::{Entry, Node, Scalar, Value, scalar::ScalarKind};
use crate::report::{Finding, Report};
use crate::source::Place;
use crate::template::Rendered;

/// How deep values may nest; Kamal's schema needs 7.
const MAX_DEPTH: usize = 64;

/// How much aliases may add to a file, in values and characters: a few hundred bytes can otherwise stand for gigabytes.
const MAX_ALIAS_WEIGHT: usize = 1_000_000;

/// Reads one file. What is wrong goes to the report; none if the text cannot be read as YAML at all.
pub(crate) fn build(rendered: &Rendered, file: usize, report: &mut Report) -> Option<Node> {
    let mut tree =
        Tree { rendered, file, report, stack: Vec::new(), root: None, anchors: BTreeMap::new(), weight: 0 };
    let mut documents = 0_usize;
    // The events borrow nothing but the text; the parser gives no event after an error.
    for event in Parser::new_from_str(&rendered.text) {
        match event {
            Ok((Event::DocumentStart(_), span)) => {
                documents += 1;
                if documents > 1 {
                    let at = tree.place(span);
                    tree.report.mistake(Finding::new(
                        at,
                        "",
                        "a deploy file holds one YAML document, this is a second",
                    ));
                    return None;
                }
            }
            Ok((event, span)) => tree.event(event, span).ok()?,
            Err(error) => {
                let marker = error.marker();
                let at = rendered.place(file, marker.line(), marker.col(), 1);
                let mut finding = Finding::new(at, "", format!("not valid YAML: {}", error.info()));
                if error.info().contains("tab") {
                    finding = finding.help("indent with blanks, YAML allows no tabs there");
                }
                tree.report.mistake(finding);
                return None;
            }
        }
    }
    Some(tree.root.unwrap_or(Node { at: Place::file(file), value: Value::Scalar(Scalar::plain("")) }))
}

/// The reader must stop: the mistake is in the report.
struct Stop;

struct Tree<'a> {
    rendered: &'a Rendered,
    file: usize,
    report: &'a mut Report,
    stack: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, Node>,
    weight: usize,
}

/// A list or map whose end has not come yet.
struct Open {
    at: Place,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { entries: Vec<Entry>, merged: Vec<String>, key: Option<Key> },
}

struct Key {
    name: String,
    at: Place,
    is_merge: bool,
}

impl Tree<'_> {
    fn place(&self, span: Span) -> Place {
        let width = if span.start.line() == span.end.line() { span.len().max(1) } else { 1 };
        self.rendered.place(self.file, span.start.line(), span.start.col(), width)
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let at = self.place(span);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = self.scalar(&text, style, tag.as_deref(), at);
                let is_plain = style == ScalarStyle::Plain;
                self.add(Node { at, value: Value::Scalar(scalar) }, anchor, is_plain)
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(at, anchor, tag.as_deref(), Content::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map { entries: Vec::new(), merged: Vec::new(), key: None };
                self.open(at, anchor, tag.as_deref(), content)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, at),
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, at: Place) -> Scalar {
        match tag.map(|tag| (tag.is_yaml_core_schema(), tag.handle.as_str(), tag.suffix.as_str())) {
            None if style == ScalarStyle::Plain => Scalar::plain(text),
            None | Some((true, _, "str")) | Some((false, "!" | "", "")) => Scalar::text(text),
            Some((true, _, "int" | "float" | "bool" | "null")) => Scalar::plain(text),
            Some((_, _, suffix)) => {
                self.unknown_tag(suffix, at);
                Scalar::text(text)
            }
        }
    }

    fn unknown_tag(&mut self, suffix: &str, at: Place) {
        self.report.mistake(Finding::new(
            at,
            "",
            format!("the tag `{suffix}` has no meaning in a deploy file"),
        ));
    }

    fn open(&mut self, at: Place, anchor: usize, tag: Option<&Tag>, content: Content) -> Result<(), Stop> {
        if let Some(tag) =
            tag.filter(|tag| !(tag.is_yaml_core_schema() && matches!(tag.suffix.as_str(), "map" | "seq")))
        {
            self.unknown_tag(&tag.suffix, at);
        }
        if self.stack.len() >= MAX_DEPTH {
            self.report.mistake(Finding::new(at, "", format!("values nest deeper than {MAX_DEPTH} levels")));
            return Err(Stop);
        }
        self.stack.push(Open { at, anchor, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(Open { at, anchor, content }) = self.stack.pop() else { return Ok(()) };
        let value = match content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        self.add(Node { at, value }, anchor, false)
    }

    fn alias(&mut self, anchor: usize, at: Place) -> Result<(), Stop> {
        let Some(node) = self.anchors.get(&anchor) else {
            self.report.mistake(Finding::new(at, "", "an alias cannot stand inside the value that it names"));
            return Err(Stop);
        };
        let (weight, depth) = measure(node);
        self.weight = self.weight.saturating_add(weight);
        if self.weight > MAX_ALIAS_WEIGHT || self.stack.len() + depth > MAX_DEPTH {
            self.report.mistake(Finding::new(at, "", "aliases make this file too large"));
            return Err(Stop);
        }
        let node = node.clone();
        self.add(node, 0, false)
    }

    fn add(&mut self, node: Node, anchor: usize, is_plain: bool) -> Result<(), Stop> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map { key: key @ None, .. } => {
                let Node { at, value: Value::Scalar(scalar) } = node else {
                    self.report.mistake(Finding::new(
                        node.at,
                        "",
                        "a key must be a text, not a list or a map",
                    ));
                    return Err(Stop);
                };
                let is_merge = is_plain && scalar.raw == "<<";
                let name = match scalar.kind {
                    ScalarKind::Text(text) => text,
                    _ => scalar.raw,
                };
                *key = Some(Key { name, at, is_merge });
            }
            Content::Map { entries, merged, key } => {
                let Some(key) = key.take() else { return Ok(()) };
                if key.is_merge {
                    merge_key(entries, merged, key.at, node, self.report);
                } else {
                    put(entries, merged, key, node, self.report);
                }
            }
        }
        Ok(())
    }
}

/// Adds a key that is written in the map itself.
fn put(entries: &mut Vec<Entry>, merged: &mut Vec<String>, key: Key, value: Node, report: &mut Report) {
    let entry = Entry { key: key.name, key_at: key.at, value };
    match entries.iter_mut().find(|old| old.key == entry.key) {
        None => entries.push(entry),
        Some(old) if merged.contains(&entry.key) => {
            merged.retain(|name| *name != entry.key);
            *old = entry;
        }
        Some(old) => {
            let message = format!("duplicate key `{}`, already set in line {}", entry.key, old.key_at.line);
            report.mistake(Finding::new(entry.key_at, "", message).help("keep one of the two lines"));
        }
    }
}

/// Merges the value of `<<`. As in Ruby, it replaces what stands before it in the map and yields to what follows.
fn merge_key(
    entries: &mut Vec<Entry>,
    merged: &mut Vec<String>,
    at: Place,
    value: Node,
    report: &mut Report,
) {
    let layers = match value.value {
        Value::Map(layer) => vec![layer],
        // Of several maps the first wins.
        Value::List(items) if items.iter().all(|item| item.entries().is_some()) => items
            .into_iter()
            .rev()
            .filter_map(|item| match item.value {
                Value::Map(layer) => Some(layer),
                _ => None,
            })
            .collect(),
        _ => {
            report.mistake(
                Finding::new(at, "", "`<<` takes a map or a list of maps").help("write `<<: *name`"),
            );
            return;
        }
    };
    for entry in layers.into_iter().flatten() {
        match entries.iter_mut().find(|old| old.key == entry.key) {
            None => {
                merged.push(entry.key.clone());
                entries.push(entry);
            }
            Some(old) => {
                if !merged.contains(&entry.key) {
                    let message =
                        format!("`<<` replaces the key `{}` of line {}", entry.key, old.key_at.line);
                    report.warn(
                        Finding::new(at, "", message).help("put `<<` first to let the keys of the map win"),
                    );
                    merged.push(entry.key.clone());
                }
                *old = entry;
            }
        }
    }
}

/// Returns the weight of a value in values and bytes, and its depth.
fn measure(node: &Node) -> (usize, usize) {
    let sum = |parts: Vec<(usize, usize)>| {
        parts.into_iter().fold((1, 1), |(weight, depth), (more, deep)| (weight + more, depth.max(deep + 1)))
    };
    match &node.value {
        Value::Scalar(scalar) => (1 + scalar.raw.len(), 1),
        Value::List(items) => sum(items.iter().map(measure).collect()),
        Value::Map(entries) => sum(entries
            .iter()
            .map(|entry| {
                let (weight, depth) = measure(&entry.value);
                (weight + entry.key.len(), depth)
            })
            .collect()),
    }
}
