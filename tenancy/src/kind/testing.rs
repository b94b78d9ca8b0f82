//! A tenant and answers for tests of kinds.

use super::{Facts, Resource, isolation::Ruled};
use crate::object::Object;
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr};

pub(crate) use crate::fuzz::tenant;

/// Facts as a test states them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) referenced: bool,
    pub(crate) pod_addresses: Vec<IpAddr>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) has_selector: Option<bool>,
    pub(crate) uid: Option<String>,
    pub(crate) ruled: Ruled,
    /// Kinds and names that are offered.
    pub(crate) offered: Vec<(&'static str, &'static str)>,
    /// StorageClasses that are offered to those alone that may keep volumes.
    pub(crate) kept_back: Vec<&'static str>,
    /// Extended resources with the DeviceClasses whose devices they are.
    pub(crate) device_classes: Vec<(&'static str, &'static str)>,
    pub(crate) offers_all: bool,
    /// Nodes that pods of the tenant are bound to.
    pub(crate) nodes: Vec<&'static str>,
    /// Hosts that another tenant has.
    pub(crate) taken: Vec<&'static str>,
}

impl Facts for Answers {
    fn is_referenced(&self, _: &Resource, _: &str, _: &str) -> bool {
        self.referenced
    }

    fn is_pod_address(&self, address: IpAddr) -> bool {
        self.pod_addresses.contains(&address)
    }

    fn namespaces(&self, _: &Value) -> Vec<String> {
        self.namespaces.clone()
    }

    fn has_selector(&self, _: &str, _: &str) -> Option<bool> {
        self.has_selector
    }

    fn uid(&self, _: &str, _: &str, _: &str, _: &str) -> Option<String> {
        self.uid.clone()
    }

    fn ruled(&self, _: &str, _: &BTreeMap<String, String>) -> Ruled {
        self.ruled
    }

    fn is_offered(&self, kind: &str, name: &str) -> bool {
        self.offers_all || self.offered.contains(&(kind, name))
    }

    fn is_kept_back(&self, storage_class: &str) -> bool {
        self.kept_back.contains(&storage_class)
    }

    fn device_classes(&self, resource: &str) -> Vec<String> {
        let by_name = self
            .device_classes
            .iter()
            .filter(|(name, _)| *name == resource);
        by_name.map(|(_, class)| (*class).to_owned()).collect()
    }

    fn runs_on(&self, node: &str) -> bool {
        self.nodes.contains(&node)
    }

    fn is_host_taken(&self, host: &str) -> bool {
        self.taken.contains(&host)
    }
}

/// An object of JSON that a test wrote.
pub(crate) fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}
