//! Whether a leaf's Secret still holds what was put into it: somebody may have edited it.

use super::{Form, Leaf, Order, text_of};
use crate::{
    clients::kubeconfig::{Access, Credentials},
    object::Object,
};
use rcgen::KeyPair;
use serde_json::json;
use x509_parser::pem::parse_x509_pem;
use zeroize::Zeroizing;

/// Whether marks and type are as they must be, and what it holds can be used and is of this authority.
pub(super) fn is_whole(order: &Order, leaf: &Leaf, have: &Object, authority: &Object) -> bool {
    let marks = json!({"metadata": order.metadata, "type": order.secret_type});
    have.holds(&marks) && is_usable(leaf, have, authority).is_some()
}

fn is_usable(leaf: &Leaf, have: &Object, authority: &Object) -> Option<()> {
    let (field, server, name) = match &leaf.form {
        Form::Files => {
            let key = Zeroizing::new(text_of(have, "tls.key")?);
            parse_x509_pem(text_of(have, "tls.crt")?.as_bytes()).ok()?;
            return key.starts_with("-----BEGIN ").then_some(());
        }
        Form::Kubeconfig {
            key,
            server,
            tls_server_name,
            ..
        } => (key, server, tls_server_name),
    };
    let text = Zeroizing::new(text_of(have, field)?);
    let access = Access::parse(&text).ok()?;
    let Credentials::Certificate { certificate, key } = &access.credentials else {
        return None;
    };
    let (_, pem) = parse_x509_pem(certificate.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let public = &certificate.public_key().subject_public_key.data;
    let pair = KeyPair::from_pem(key).ok()?;
    let leads_there = access.server == *server && access.tls_server_name == *name;
    let fits = public.as_ref() == pair.public_key_raw()
        && Some(&access.ca) == text_of(authority, "tls.crt").as_ref();
    (leads_there && fits).then_some(())
}

#[cfg(test)]
mod tests {
    use super::super::{Authority, Material, OPAQUE, Usage, is_due, issue};
    use super::*;
    use base64::{Engine, prelude::BASE64_STANDARD};
    use jiff::Timestamp;
    use serde_json::Value;

    fn order(material: Material) -> Order {
        let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "o"});
        Order {
            namespace: "n".into(),
            name: "s".into(),
            metadata: json!({"labels": {"a": "b"}, "ownerReferences": [owner]}),
            material,
            secret_type: OPAQUE,
            identity: "acme".into(),
        }
    }

    fn leaf(form: Form) -> Order {
        order(Material::Leaf(Leaf {
            authority: Authority::Cluster,
            common_name: "admin".into(),
            organization: None,
            usage: Usage::Client,
            names: vec![],
            form,
            days: super::super::LEAF_DAYS,
        }))
    }

    fn kubeconfig(server: &str) -> Order {
        leaf(Form::Kubeconfig {
            key: "value",
            server: server.into(),
            tls_server_name: Some("tenant".into()),
            context: "acme".into(),
        })
    }

    #[test]
    fn what_somebody_damaged_is_made_anew() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let authority =
            || issue(&order(Material::Authority(Authority::Cluster)), None, now).unwrap();
        let (ca, other) = (authority(), authority());
        let wanted = kubeconfig("https://host:1");
        let made = |order: &Order, ca: &Object| issue(order, Some(ca), now).unwrap();
        let own = made(&wanted, &ca);
        let is_due = |have: &Object| is_due(&wanted, Some(have), Some(&ca), now);
        assert!(!is_due(&own));
        let mut more = own.clone();
        more.body["metadata"]["labels"]["theirs"] = json!("c");
        assert!(!is_due(&more), "what somebody adds is no damage");

        let with = |value: Value| {
            let mut have = own.clone();
            have.body["data"]["value"] = value;
            have
        };
        let elsewhere = made(&kubeconfig("https://elsewhere:1"), &ca);
        let text = text_of(&own, "value").unwrap();
        let mut access = Access::parse(&text).unwrap();
        let theirs = Access::parse(&text_of(&made(&wanted, &ca), "value").unwrap()).unwrap();
        let Credentials::Certificate { key: another, .. } = &theirs.credentials else {
            panic!("a certificate");
        };
        if let Credentials::Certificate { key, .. } = &mut access.credentials {
            key.clone_from(another);
        }
        let mixed = BASE64_STANDARD.encode(access.to_yaml("acme", "admin").unwrap());
        for (what, value) in [
            ("nothing", Value::Null),
            ("no kubeconfig", json!(BASE64_STANDARD.encode("mine"))),
            ("another server", elsewhere.body["data"]["value"].clone()),
            (
                "another authority",
                made(&wanted, &other).body["data"]["value"].clone(),
            ),
            ("another key", json!(mixed)),
        ] {
            assert!(is_due(&with(value)), "{what}");
        }
        for pointer in [
            "/metadata/labels/a",
            "/metadata/ownerReferences/0/uid",
            "/type",
        ] {
            let mut have = own.clone();
            *have.body.pointer_mut(pointer).unwrap() = json!("theirs");
            assert!(is_due(&have), "{pointer}");
        }

        let files = leaf(Form::Files);
        let mut have = made(&files, &ca);
        assert!(!super::super::is_due(&files, Some(&have), Some(&ca), now));
        have.body["data"]["tls.crt"] = json!(BASE64_STANDARD.encode("mine"));
        assert!(super::super::is_due(&files, Some(&have), Some(&ca), now));
    }
}
