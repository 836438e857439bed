//! Which file of an engine's archive is which layer.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::image::DiffId;
use crate::scratch_image::hex;

/// Tells the layers of one image apart while its archive passes by.
#[derive(Debug)]
pub(crate) struct LayerNames {
    layers: Vec<DiffId>,
    chain_ids: Vec<String>,
    /// Folders of the format before Docker 25, known by the `json` file in them.
    folders: BTreeMap<String, usize>,
}

impl LayerNames {
    pub(crate) fn new(layers: &[DiffId]) -> Self {
        let mut chain_ids: Vec<String> = Vec::new();
        for layer in layers {
            chain_ids.push(match chain_ids.last() {
                // Source: https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
                Some(below) => format!("sha256:{}", hex(&Sha256::digest(format!("{below} {layer}")))),
                None => layer.to_string(),
            });
        }
        Self { layers: layers.to_vec(), chain_ids, folders: BTreeMap::new() }
    }

    pub(crate) fn count(&self) -> usize {
        self.layers.len()
    }

    pub(crate) fn diff_id(&self, index: usize) -> Option<&DiffId> {
        self.layers.get(index)
    }

    /// Says whether a file describes a layer, so that [`LayerNames::learn`] wants its content.
    pub(crate) fn describes_layer(path: &str) -> bool {
        path.split_once('/').is_some_and(|(folder, file)| file == "json" && folder.len() == 64)
    }

    /// Takes a layer's description in.
    pub(crate) fn learn(&mut self, path: &str, content: &[u8]) {
        if let Some((folder, _)) = path.split_once('/')
            && let Some(index) = legacy_index(content, &self.chain_ids)
        {
            self.folders.insert(folder.to_owned(), index);
        }
    }

    /// Returns the layers whose content a file is: by position, more than one if layers repeat.
    pub(crate) fn of_file(&self, path: &str) -> Vec<usize> {
        if let Some(folder) = path.strip_suffix("/layer.tar") {
            return self.folders.get(folder).copied().into_iter().collect();
        }
        // `blobs/sha256/HEX` since Docker 25, `HEX.tar` of Podman; neither is a layer's if it is compressed.
        let name = path.strip_prefix("blobs/sha256/").or_else(|| path.strip_suffix(".tar"));
        let Some(name) = name else { return Vec::new() };
        let wanted = |layer: &DiffId| layer.as_str().strip_prefix("sha256:") == Some(name);
        self.layers.iter().enumerate().filter(|(_, layer)| wanted(layer)).map(|(index, _)| index).collect()
    }
}

/// Finds the layer that a `json` file describes. The name of its folder, which is also its `id`, is the digest of that
/// description together with the chain of the layer.
///
/// Source: `CreateID` in github.com/moby/moby/image/v1/imagev1.go and its use in image/tarexport/save.go, which sets
/// `os` after the digest is taken, except in the topmost layer.
fn legacy_index(content: &[u8], chain_ids: &[String]) -> Option<usize> {
    let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(content).ok()?;
    let id: String = serde_json::from_str(fields.remove("id")?.get()).ok()?;
    if let Some(parent) = fields.remove("parent") {
        let parent: String = serde_json::from_str(parent.get()).ok()?;
        let value = RawValue::from_string(format!("\"sha256:{parent}\"")).ok()?;
        fields.insert("parent".to_owned(), value);
    }
    for with_os in [true, false] {
        if !with_os {
            fields.remove("os")?;
        }
        for (index, chain_id) in chain_ids.iter().enumerate() {
            let value = RawValue::from_string(format!("\"{chain_id}\"")).ok()?;
            fields.insert("layer_id".to_owned(), value);
            if hex(&Sha256::digest(serde_json::to_vec(&fields).ok()?)) == id {
                return Some(index);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff_id(byte: &str) -> DiffId {
        DiffId(format!("sha256:{}", byte.repeat(32)))
    }

    #[test]
    fn newer_and_podmans_archives_name_layers_by_digest() {
        let names = LayerNames::new(&[diff_id("a1"), diff_id("b2"), diff_id("a1")]);
        assert_eq!(names.of_file(&format!("blobs/sha256/{}", "a1".repeat(32))), [0, 2]);
        assert_eq!(names.of_file(&format!("{}.tar", "b2".repeat(32))), [1]);
        assert!(names.of_file(&format!("blobs/sha256/{}", "c3".repeat(32))).is_empty());
        assert!(names.of_file("manifest.json").is_empty());
    }

    #[test]
    fn older_archives_name_layers_by_a_digest_over_their_chain() {
        let mut names = LayerNames::new(&[diff_id("a1"), diff_id("b2")]);
        let chain = names.chain_ids[1].clone();
        let parent = "0f".repeat(32);
        let digested = format!(
            r#"{{"container_config":{{"Cmd":null}},"created":"1970-01-01T00:00:00Z","layer_id":"{chain}","parent":"sha256:{parent}"}}"#
        );
        let id = hex(&Sha256::digest(digested));
        let json = format!(
            r#"{{"id":"{id}","parent":"{parent}","created":"1970-01-01T00:00:00Z","container_config":{{"Cmd":null}},"os":"linux"}}"#
        );
        assert!(LayerNames::describes_layer(&format!("{id}/json")));
        names.learn(&format!("{id}/json"), json.as_bytes());
        assert_eq!(names.of_file(&format!("{id}/layer.tar")), [1]);
        let other = json.replace("linux", "linux ").replace("1970", "1971");
        names.learn("x/json", other.as_bytes());
        assert!(names.of_file("x/layer.tar").is_empty());
    }
}
