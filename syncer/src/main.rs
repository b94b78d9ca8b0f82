//! syncer.

fn main() {}
