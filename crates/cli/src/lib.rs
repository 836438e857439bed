//! Turns a command line into a plan, shows what became of it.
