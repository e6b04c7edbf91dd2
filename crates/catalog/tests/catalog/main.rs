//! What the catalog promises, seen from outside: one module per promise.
//!
//! The modules say `cfg(test)` so that clippy knows their helpers for tests, too.

#[cfg(test)]
mod export;
#[cfg(test)]
mod group_commit;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod model;
#[cfg(test)]
mod power_cut;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod samples;
