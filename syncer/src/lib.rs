//! The sync engine: one for all tenants and all kinds.
//!
//! ```text
//! tenant API server ─watch─▶ fair queue ─▶ downward: gather ─▶ tenancy: translate + plan ─▶ apply ─▶ super cluster
//! tenant API server ◀─apply─ tenancy: up ◀─ upward: gather ◀─ fair queue ◀──────────watch─ super cluster
//! ```
//!
//! An event becomes a key and a fingerprint; its object lives only until the key has been worked. What crosses, and
//! how, is decided in the crate `tenancy`; this crate watches, gathers and applies. Only [`apply`] writes, and only for
//! tenants that this process leads among several ([`fleet`]).

pub mod args;

mod ahead;
mod answer;
mod client;
mod connect;
mod error;
mod fence;
mod kubeconfig;
mod lanes;
mod pace;
mod pages;
mod paths;
mod watch;

mod fleet;
mod term;

mod ceiling;
mod engine;
mod facts;
mod offered;
mod pending;
mod queue;
mod registry;
mod table;
mod tenants;
mod untaken;
mod verdict;

mod lag;

mod breakers;
mod external;
mod gate;
mod guard;
mod hosts;
mod marks;
mod proof;

mod apply;
mod audit;
mod budget;
mod companions;
mod downward;
mod intake;
mod isolation;
mod labelled;
mod live;
mod namespace_quota;
mod nodes;
mod parked;
mod publish;
mod quota;
mod readdress;
mod refusals;
mod removal;
mod reserve;
mod sharing;
mod slices;
mod stopping;
mod super_bytes;
mod tokens;
mod unserved;
mod upward;
mod work;

mod lasting;
mod metrics;
mod page;
mod patrol;
mod rounds;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod rights;
