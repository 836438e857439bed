//! What a person sees of the executable: standard output, standard error and exit code together, for help and for every
//! mistake that needs no host.

#[cfg(test)]
mod accessories;
#[cfg(test)]
mod builds;
#[cfg(test)]
mod compat;
#[cfg(test)]
mod config;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod help;
#[cfg(test)]
mod kamal;
#[cfg(test)]
mod record;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod success;
