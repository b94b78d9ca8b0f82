//! The harness of the end-to-end tests: a real super cluster with Sublet in it, and real tenants.
//!
//! Nothing is faked and nothing is skipped: a test that lacks what it needs fails and says what to run. The tests share
//! two tenants ([`tenant::A`] and [`tenant::B`]) and each has a namespace of its own in one of them ([`space`]). All
//! waiting is for conditions, by [`wait::eventually`], with a limit and with what was seen last.
//!
//! Objects are JSON, as in the engine: what a test writes is what the API server gets.

pub mod settings;

pub mod kind;
pub mod side;
pub mod wait;

pub mod make;
pub mod read;
pub mod schema;

pub mod dump;
pub mod space;
pub mod tenant;

pub mod account;
pub mod daemon;
pub mod program;
pub mod way_out;

pub mod core;

pub mod bench;
pub mod document;
pub mod figure;
pub mod noise;

pub mod faultproxy;
pub mod oracle;
pub mod rig;
