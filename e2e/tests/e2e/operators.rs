//! Operators of others, installed in a tenant as on any cluster.

mod aggregated;
mod cert_manager;
