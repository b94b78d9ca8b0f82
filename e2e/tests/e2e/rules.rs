//! Rules R1 to R5: whatever happens to either side, the tenant's truth survives and nothing foreign is touched.

mod downtime;
mod foreign;
mod freeze;
mod handover;
mod pods;
mod repair;
