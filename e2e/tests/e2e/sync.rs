//! What crosses, kind by kind: create, update, delete, and status back.

mod config;
mod deletion;
mod identity;
mod namespaces;
mod nodes;
mod pods;
mod refusals;
mod schema;
mod services;
mod slices;
mod workloads;
