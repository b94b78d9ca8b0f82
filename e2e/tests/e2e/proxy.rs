//! The proxy: kubectl's verbs on pods, the front door, the way out, and what they must refuse.

mod balancer;
mod external;
mod figures;
mod front_door;
mod redirects;
mod shutdown;
mod signed;
mod sleep;
mod streams;
mod threats;
mod way_out;
