//! What load programs have in common: what the kernel knows of the machine meanwhile, and the results that the repository
//! keeps.

pub mod process;

pub mod machine;
pub mod numbers;
pub mod others;

pub mod keeper;
pub mod results;

pub mod requests;

pub mod chart;
pub mod table;
