//! By what a control plane is made: what is asked for, its class, its claims and its Cluster.

pub(crate) mod control_plane;

pub(crate) mod classes;

pub(crate) mod ceilings;

pub(crate) mod authentication;

pub(crate) mod claims;

pub(crate) mod membership;
