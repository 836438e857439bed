//! Observes hosts, executes a plan over all of them, journals, emits events.
