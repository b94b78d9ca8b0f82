//! Keys and certificates by what was seen: which must be made, by whom they are signed, and who asked for new ones; pure.

use super::Seen;
use crate::{
    elsewhere::external::way_out,
    object::{Object, SECRET},
    pki::{self, Material, Order},
};
use api::keys;
use serde_json::json;

impl Seen {
    /// Whether an order must be carried out; `have` is what there is.
    pub(crate) fn is_due(&self, order: &Order, have: Option<&Object>) -> bool {
        let asked = self.new_certificates_asked(order);
        let is_asked_for =
            |have: &Object| asked.is_some() && have.annotation(keys::RENEWED) != asked;
        pki::is_due(order, have, self.authority_of(order), self.now)
            || have.is_some_and(is_asked_for)
    }

    /// Makes what an order asks for, and notes on it by which wish of an admin.
    ///
    /// # Errors
    /// Its authority is damaged, or there is no randomness.
    pub(crate) fn issue(&self, order: &Order) -> Result<Object, pki::Error> {
        let mut made = pki::issue(order, self.authority_of(order), self.now)?;
        if let Some(asked) = self.new_certificates_asked(order) {
            made.body["metadata"]["annotations"][keys::RENEWED] = json!(asked);
        }
        Ok(made)
    }

    /// By which words an admin asked last for a new one of what is ordered. They say nothing of time: clocks differ.
    fn new_certificates_asked(&self, order: &Order) -> Option<&str> {
        let is_leaf = matches!(order.material, Material::Leaf(_));
        let asked = self.object.annotation(keys::RENEW_CERTIFICATES);
        asked.filter(|_| is_leaf)
    }

    /// The Secret of the authority that signs what is ordered.
    pub(crate) fn authority_of(&self, order: &Order) -> Option<&Object> {
        match &order.material {
            Material::Leaf(leaf) => {
                let inside = self.objects.get(SECRET, leaf.authority.secret());
                // An external tenant's lies beside what it signs.
                let beside = || {
                    let owner = self.owner.as_ref()?;
                    let [authority, ..] = way_out::secrets(owner);
                    self.way_out.get(SECRET, &authority)
                };
                inside.or_else(beside)
            }
            _ => None,
        }
    }
}
