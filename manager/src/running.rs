//! How the parts of a control plane run: their pods, etcd's quorum, and what a change of them waits for.

pub(crate) mod parts;

pub(crate) mod quorum;

pub(crate) mod rollout;
