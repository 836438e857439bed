//! Leases, execution and recovery over hosts in memory, with everything that can go wrong.

#[cfg(test)]
mod canary;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod delivery;
#[cfg(test)]
mod docker_flags;
#[cfg(test)]
mod execute;
#[cfg(test)]
mod handover;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod lease;
#[cfg(test)]
mod property;
#[cfg(test)]
mod recover;
#[cfg(test)]
mod stop;
