//! The manager: from a VirtualControlPlane to a running tenant, and back to nothing.
//!
//! ```text
//! VirtualControlPlane ─┐                                         ┌─▶ super cluster: claims, namespace, keys,
//! ControlPlaneClass ───┼─▶ observe ─▶ decide (pure) ─▶ act ──────┤    etcd, API server, controller-manager
//! pods of control planes ┘     ▲                        │        └─▶ tenant: the syncer's rights, CoreDNS
//!                              └──────── again ─────────┘
//! ```
//!
//! One pass of [`virtual_control_plane`] observes all that matters for one VirtualControlPlane, and [`decide`] names
//! either the actions that come next or the status to rest at. Nothing is remembered between passes but what spares a
//! question ([`answers`]) and times that no clock of another host must tell ([`visits`], [`uncounted`]): a manager that starts
//! anew goes on where the last one stopped. What the objects look like is decided in [`provision`], their keys
//! and certificates in [`pki`].
//!
//! A tenant that runs in another super cluster has a [`twin`] there, and that cluster's own manager does the work.
//!
//! The Cluster API provider in [`capi`] makes VirtualControlPlanes out of Clusters, in the same manner.
//!
//! Not promised: that two managers run side by side. The Deployment has one replica and strategy Recreate, and its pod leaves a
//! node that seems to be gone as late as any other.

pub mod args;

mod triggers;

mod virtual_control_plane;

mod observe;

mod decide;

mod pause;

mod starts;

mod visits;

mod sleep;

mod backup;

mod restore;

mod deletion;

mod external;

mod remotes;
mod twin;

mod service_cidr;
mod status;
mod stored;
mod uncounted;

mod room;

mod etcd;

mod reminder;

mod parts;
mod quorum;
mod rollout;

mod endpoint;
mod zones;

mod act;

mod claims;
mod membership;

mod authentication;
mod ceilings;
mod classes;
mod control_plane;
mod upgrade;
mod version;

mod groups;

mod provision;

mod tenant;

mod pki;

mod answers;
mod bell;
mod cache;
mod caches;
mod kubeconfig;

mod cluster;

mod answer;

mod object;

mod proxy;

mod capi;

mod patient;
mod readable;

mod growing;

mod news;

mod metrics;

#[cfg(test)]
mod played;

#[cfg(test)]
mod rights;
