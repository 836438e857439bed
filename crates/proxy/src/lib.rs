//! Reverse proxy: routes, health checks, drain.
