//! What is known without asking, and what of it makes passes.

pub(crate) mod triggers;

pub(crate) mod news;

pub(crate) mod groups;

pub(crate) mod bell;

pub(crate) mod cache;

pub(crate) mod caches;

pub(crate) mod answers;

pub(crate) mod readable;

pub(crate) mod patient;

pub(crate) mod growing;
