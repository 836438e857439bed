//! Secrets from where they live.
