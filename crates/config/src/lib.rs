//! The deploy file's text → a [`freehold_model::Project`].
//!
//! [`parse`] takes the texts of `config/deploy.yml` and of the destination's file, and gives either a project with
//! nothing left to check or every mistake at once, each with file, line, column and a hint. The crate opens no file
//! and reads no environment: what templates may see and reach is passed in.
//!
//! A text passes through `template` (ERB without a Ruby), `yaml` (events of a YAML 1.2 parser, scalars resolved after
//! YAML 1.1 as Ruby does, aliases, merge keys), `yaml::merge` (the destination over the base) and `project` (one
//! module for each section of the file). `reference` is the table of every key: it decides which keys are known, and
//! the reference and the JSON Schema are written from it.
//!
//! It is not the place for anything that depends on a host or on files beside the deploy file: whether a Dockerfile
//! exists or a secret is defined is checked by those who read them.

mod container_option;
mod docker_flag;
mod field;
mod mistake;
mod plain;
mod project;
mod proxy_boot;
mod quantity;
mod reference;
mod report;
mod shell_word;
mod source;
mod template;
mod yaml;

pub use docker_flag::docker_flags;
pub use mistake::{ConfigErrors, Mistake, Snippet};
pub use plain::Plain;
pub use project::{Parsed, parse};
pub use proxy_boot::{ProxyBootError, parse_proxy_boot};
pub use quantity::{InvalidQuantity, format_duration, format_size, parse_cpus, parse_duration, parse_size};
pub use reference::{docs, docs_pages, json_schema, reference_markdown};
pub use shell_word::{InvalidWords, join_words, split_literal_words, split_words};
pub use source::{Source, Sources};
pub use template::{Nowhere, Surroundings, render_file};
