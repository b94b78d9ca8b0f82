//! From a control plane's start to its end: when it may start, rests, sleeps, changes its version, is kept and brought back,
//! and goes.

pub(crate) mod pause;

pub(crate) mod starts;

pub(crate) mod sleep;

pub(crate) mod visits;

pub(crate) mod upgrade;

pub(crate) mod version;

pub(crate) mod backup;

pub(crate) mod restore;

pub(crate) mod reminder;

pub(crate) mod deletion;
