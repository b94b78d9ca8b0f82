//! Names, kubeconfigs, and the texts that API servers answer.

use super::Random;
use crate::{
    arrival::{self, KnownPart, Shape},
    kubeconfig::{Access, Credentials, Error},
    naming::{self, is_label},
    tenant::TenantId,
};
use serde_json::{Value, json};

/// T1: a super namespace is a label whatever the tenant's is called, and says whose it is and which one.
pub(super) fn names(random: &mut Random) {
    const WORDS: [&str; 12] = [
        "a",
        "b",
        "-",
        "--",
        "shop",
        "kube-system",
        ".",
        "/",
        "?",
        "..",
        "\u{e4}",
        "A",
    ];
    let (one, other) = (random.text(&WORDS), random.text(&WORDS));
    let ids = [random.number(), random.number()].map(|bits| {
        let mut id = [7; 16];
        id[..8].copy_from_slice(&bits.to_be_bytes());
        TenantId::from_bits(id)
    });
    let vcp = random.pick(&["acme", "a-b", "a", "a-name-that-is-longer-than-its-room"]);
    let name = naming::super_namespace(&ids[0], vcp, &one);
    assert!(is_label(&name), "{one:?} becomes {name:?}");
    if one != other {
        assert_ne!(name, naming::super_namespace(&ids[0], vcp, &other));
    }
    assert_ne!(name, naming::super_namespace(&ids[1], vcp, &one));
    assert_ne!(name, naming::control_plane_namespace(&ids[0], vcp));
    assert!(is_label(&naming::control_plane_namespace(&ids[0], vcp)));
    assert!(is_label(&naming::token_secret(&ids[0], &one)));
    assert_eq!(
        naming::tenant_of_host(&naming::tenant_host(&ids[0])).as_ref(),
        Some(&ids[0])
    );
    if let Ok(id) = TenantId::parse(&one) {
        assert_eq!(id.as_str(), one);
    }
    assert!(naming::is_node_address(naming::node_address(&one)));
    if is_label(&one) {
        assert_eq!(
            naming::node_of_host(&naming::node_host(&one)),
            Some(one.as_str())
        );
    }
}

/// Fields that a kubeconfig from a Secret may not have, where it may not have them.
const FORBIDDEN: [(&str, &[&str]); 3] = [
    (
        "/clusters/0/cluster",
        &[
            "insecure-skip-tls-verify",
            "proxy-url",
            "certificate-authority",
            "disable-compression",
            "of-the-future",
        ],
    ),
    (
        "/users/0/user",
        &[
            "exec",
            "auth-provider",
            "tokenFile",
            "client-key",
            "client-certificate",
            "username",
            "password",
            "as",
            "as-uid",
            "as-groups",
            "as-user-extra",
            "of-the-future",
        ],
    ),
    ("", &["plugins", "of-the-future"]),
];

const SECRET: &str = "hunter2";

fn good(random: &mut Random) -> Access {
    let credentials = match random.below(2) {
        0 => Credentials::Token(SECRET.into()),
        _ => Credentials::Certificate {
            certificate: "certificate".into(),
            key: SECRET.into(),
        },
    };
    Access {
        server: "https://10.96.4.1:443".into(),
        ca: "authority".into(),
        tls_server_name: (random.below(2) == 0).then(|| "kubernetes".into()),
        namespace: (random.below(2) == 0).then(|| "work".into()),
        credentials,
    }
}

/// T47: what is taken from a kubeconfig can be written and read again, and one with what could run, read or skip is refused.
pub(super) fn kubeconfig(random: &mut Random) {
    const NAMES: [&str; 12] = [
        "server",
        "certificate-authority-data",
        "tls-server-name",
        "token",
        "client-key-data",
        "client-certificate-data",
        "current-context",
        "name",
        "user",
        "cluster",
        "exec",
        "extensions",
    ];
    let mut file = good(random).to_value("acme", "admin");
    if random.below(2) == 0 {
        random.bend_json(&mut file, &NAMES);
        if let Err(error) = parse(&file.to_string()) {
            assert!(!error.to_string().contains(SECRET), "{error}");
        }
        return;
    }
    let (place, fields) = random.pick(&FORBIDDEN);
    let value = match random.json(&NAMES, 3) {
        // These say nothing.
        Value::Null | Value::Bool(false) => json!({"command": "sh"}),
        value if value == "" => json!("/etc/shadow"),
        value => value,
    };
    let field = random.pick(fields);
    if let Some(place) = file.pointer_mut(place) {
        place[field] = value.clone();
    }
    let read = Access::parse(&file.to_string());
    assert!(read.is_err(), "{field}: {value} is taken");
}

/// The same with texts that are no JSON: it ends.
pub(super) fn kubeconfig_text(random: &mut Random) {
    const ALPHABET: &[u8] = b"&*!|>%@`{}[]:,#-?\"'\\ \t\n\r0aA<\0";
    let Ok(text) = good(random).to_yaml("acme", "admin") else {
        return;
    };
    let mut bytes = text.into_bytes();
    random.bend(&mut bytes, ALPHABET);
    if random.below(8) == 0 {
        let bomb = b"\na: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n<<: *a\n";
        bytes.extend_from_slice(bomb);
    }
    let _ = parse(&String::from_utf8_lossy(&bytes));
}

fn parse(text: &str) -> Result<(), Error> {
    let access = Access::parse(text)?;
    assert!(access.server.starts_with("https://"), "{access:?}");
    let again = access.to_yaml("acme", "admin")?;
    assert!(Access::parse(&again).as_ref() == Ok(&access), "{again}");
    Ok(())
}

/// T42: of what an API server answers as much is read as is there, with nothing but `managedFields` passed over.
pub(super) fn answers(random: &mut Random) {
    const NAMES: [&str; 10] = [
        "metadata",
        "managedFields",
        "items",
        "object",
        "type",
        "spec",
        "name",
        "namespace",
        "resourceVersion",
        "continue",
    ];
    let object = json!({
        "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "uid": "u", "generation": 2, "managedFields": [{"a": 1}]},
        "spec": {"nodeName": "n", "containers": [{"name": "c"}]}, "status": {"phase": "Running"},
    });
    let (shape, mut value) = match random.below(3) {
        0 => (Some(Shape::Object), object),
        1 => {
            let list =
                json!({"metadata": {"resourceVersion": "7", "continue": "x"}, "items": [object]});
            (Some(Shape::List), list)
        }
        _ => (None, json!({"type": "MODIFIED", "object": object})),
    };
    random.bend_json(&mut value, &NAMES);
    let mut bytes = value.to_string().into_bytes();
    if random.below(2) == 0 {
        random.bend(&mut bytes, b"{}[]\",:\\0e-\n u\xff");
    }
    let plain = serde_json::from_slice::<Value>(&bytes).ok();
    let Some(shape) = shape else {
        for known in [KnownPart::Nothing, KnownPart::Spec(7), KnownPart::All] {
            let read = arrival::event(&bytes, &|_, _| known);
            // Of what is passed over not all is looked at.
            assert!(read.is_ok() || plain.is_none(), "{plain:?}");
        }
        return;
    };
    let read = arrival::read(&bytes, shape).ok();
    assert!(read.is_some() || plain.is_none(), "{plain:?}");
    if let (Some(read), Some(mut plain)) = (read, plain) {
        let forget = |object: &mut Value| {
            let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
            metadata.and_then(|metadata| metadata.remove("managedFields"));
        };
        match shape {
            Shape::List => {
                let items = plain.get_mut("items").and_then(Value::as_array_mut);
                items.into_iter().flatten().for_each(forget);
            }
            _ => forget(&mut plain),
        }
        assert_eq!(read, plain);
    }
}
