//! The deploy file's text to a model::Project.
