//! Planner scripts: a state, a command, the plan that follows.

#[cfg(test)]
mod accessories;
#[cfg(test)]
mod canary;
#[cfg(test)]
mod delivery;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod gate;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod property;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod rollback;
#[cfg(test)]
mod rollout;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod simulation;
