//! API servers that are asked: how, with which patience, and how much of an answer is read.

pub(crate) mod cluster;

pub(crate) mod answer;

pub(crate) mod kubeconfig;

pub(crate) mod remotes;
