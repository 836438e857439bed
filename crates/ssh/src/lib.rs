//! Sessions to hosts: channels, jump hosts, files, forwarded ports, host keys.
