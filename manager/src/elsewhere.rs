//! Tenants of which a part runs elsewhere: in another super cluster, or under an API server that Sublet didn't make.

pub(crate) mod external;

pub(crate) mod twin;
