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
//! question ([`watching::answers`]) and times that no clock of another host must tell ([`lifecycle::visits`],
//! [`store::uncounted`]): a manager that starts anew goes on where the last one stopped. What the objects look like is
//! decided in [`provision`], their keys and certificates in [`pki`].
//!
//! A tenant that runs in another super cluster has a [twin](elsewhere::twin) there, and that cluster's own manager does the work.
//!
//! The Cluster API provider in [`capi`] makes VirtualControlPlanes out of Clusters, in the same manner.
//!
//! Not promised: that two managers run side by side. The Deployment has one replica and strategy Recreate, and its pod leaves a
//! node that seems to be gone as late as any other.

pub mod args;

// The round.
mod act;
mod decide;
mod observe;
mod status;
mod virtual_control_plane;
mod watching;

// What is decided by matter.
mod elsewhere;
mod lifecycle;
mod network;
mod running;
mod spec;
mod store;

// What is made.
mod capi;
mod pki;
mod provision;
mod tenant;

// By which means.
mod clients;
mod metrics;
mod object;

#[cfg(test)]
mod played;

#[cfg(test)]
mod rights;
