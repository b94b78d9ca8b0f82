//! What crosses, kind by kind: create, update, delete, and status back.

mod classes;
mod config;
mod custom;
mod deletion;
mod identity;
pub(crate) mod kinds;
mod namespaces;
mod nodes;
mod pods;
mod refusals;
mod schema;
mod services;
mod slices;
mod traffic;
mod volumes;
mod workloads;
