//! The deploy file as strangers write it: data files with what `parse` says of them.

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod effect;
#[cfg(test)]
mod property;
#[cfg(test)]
mod reference;
