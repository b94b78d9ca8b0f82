//! Pods in full: what a pod may ask for means in a tenant what it means in any cluster.

mod gates;
mod itself;
mod life;
mod made;
mod names;
mod placement;
mod tokens;
