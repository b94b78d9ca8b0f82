//! A tenant's etcd: what may be kept in it, how full it is, and room in it.

pub(crate) mod stored;

pub(crate) mod etcd;

pub(crate) mod room;

pub(crate) mod uncounted;
