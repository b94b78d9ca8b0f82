//! The rules by which tenants' objects live in the super cluster; pure, all of it.
//!
//! - A tenant's namespace becomes one super namespace ([`naming`]); objects keep their names, with the few exceptions in
//!   [`refs`]. The mapping is injective and can't be forged.
//! - Ownership is written on the object itself, in its create ([`meta`]); `print` tells whether something is as it was.
//! - A [`kind::Kind`] says how one resource crosses: what the super cluster must hold for a tenant's object, and what
//!   the tenant must see of the super cluster's.
//! - [`plan`] compares what must be with what is and names the one request that closes the gap.
//! - [`fair_queue`] decides whose key is worked next; [`circuit`] whether an API server is worth asking, [`limit`] how
//!   many requests it gets at once, [`bucket`] how often something is done.
//! - [`lag`] says how far a tenant's sync lags behind, and when that is worth telling.
//! - [`fleet`] shares tenants among several syncers, and says until when each may write.
//! - [`breaker`] decides when so much is missing that a person must look before anything is deleted.
//! - [`closed`] lists the addresses that no class opens.
//! - [`reach`] says where a tenant's pods may go beside their own tenant.
//! - [`ceiling`] says what of a control plane is more than its class allows.
//! - [`pod_rules`] says what a tenant's pods are made with, whatever they ask for.
//! - [`taint`] says which taints of nodes keep them out.
//! - [`quota`] counts what a tenant takes of the super cluster, over all of its namespaces.
//! - [`reservation`] keeps addresses of the platform from being given to a tenant's Services.
//! - [`sharing`] shows Services of others to a tenant, and opens what leads to them.
//! - [`readdress`] gives a Service another address where its own is taken.
//! - [`to_super`] says how much of each resource goes down.
//! - `left_out` says what of an object doesn't cross though something in a cluster would obey it.
//! - [`hosts`] says which tenant a host name belongs to.
//! - [`kubeconfig`] reads by allow-list how a tenant's API server is reached.
//! - [`fuzz`] tries all that with what no tenant should write.
//!
//! No I/O, no clock, no randomness: time is an argument, and this crate's manifest has neither a runtime nor a client.

#![cfg_attr(test, allow(clippy::too_many_lines, reason = "a test tells one story"))]

pub mod tenant;

pub mod object;

pub mod arrival;

pub mod naming;

pub(crate) mod print;

pub mod route;

pub mod slice;

pub mod reservation;

pub mod block;

pub mod closed;
pub mod reach;
pub mod resolver;

pub mod meta;

pub mod refs;

pub mod selector;

pub mod ceiling;
pub mod pod_rules;
pub mod taint;

pub mod offer;
pub mod to_super;

pub mod hosts;

pub(crate) mod left_out;

pub mod sharing;

pub mod readdress;

pub mod kind;

pub mod plan;

pub mod pause;

pub mod lag;

pub mod fair_queue;

pub mod circuit;

pub mod limit;
pub mod paging;

pub mod bucket;

pub mod fleet;

pub mod breaker;

pub mod mark;

pub mod quota;

pub mod kubeconfig;

pub mod fuzz;
