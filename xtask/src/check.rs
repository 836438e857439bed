pub(crate) mod files;
pub(crate) mod layers;
pub(crate) mod manifests;
pub(crate) mod purity;
pub(crate) mod sources;
pub(crate) mod unused;
