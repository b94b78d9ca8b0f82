//! Where tenants are reached, and which addresses they give.

pub(crate) mod endpoint;

pub(crate) mod zones;

pub(crate) mod proxy;

pub(crate) mod service_cidr;
