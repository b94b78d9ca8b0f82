//! Host names and DNS settings.

use anyhow::ensure;
use e2e::{
    kind::{POD, SERVICE},
    make,
    read::text,
    space::{Space, within},
    tenant::A,
};
use serde_json::{Value, json};

/// Runs a script in a pod whose spec has these fields too.
async fn ask(space: &Space, name: &str, fields: Value, script: &str) -> anyhow::Result<String> {
    let mut spec = make::once(make::shell(script));
    for (field, value) in fields.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    space
        .create(
            POD,
            json!({"metadata": {"name": name, "labels": {"app": "named"}}, "spec": spec}),
        )
        .await?;
    space.outcome(name).await
}

#[test]
fn host_names_are_those_that_the_tenant_gives() {
    within(A, "hosts", async |space| {
        let headless = json!({
            "metadata": {"name": "db"},
            "spec": {"clusterIP": "None", "selector": {"app": "named"}, "publishNotReadyAddresses": true, "ports": [{"port": 80}]},
        });
        space.create(SERVICE, headless).await?;
        space.twin(SERVICE, "db").await?;
        let hostname = "hostname > /dev/termination-log";
        let full = format!("one.db.{}.svc.cluster.local", space.name);
        // It finds itself by its full name, as the endpoints of its Service say.
        let found = format!(
            "hostname > /dev/termination-log; until nslookup {full} | grep -q \"Address.*$(hostname -i)\"; do sleep 0.5; done; \
             echo found >> /dev/termination-log"
        );
        for (name, fields, script, wanted) in [
            ("plain", json!({}), hostname, "plain".to_owned()),
            (
                "given",
                json!({"hostname": "one"}),
                hostname,
                "one".to_owned(),
            ),
            (
                "domain",
                json!({"hostname": "one", "subdomain": "db"}),
                &found,
                "one\nfound".to_owned(),
            ),
            (
                "fqdn",
                json!({"hostname": "two", "subdomain": "db", "setHostnameAsFQDN": true}),
                hostname,
                full.replace("one", "two"),
            ),
            (
                "override",
                json!({"hostnameOverride": "host.example.com"}),
                hostname,
                "host.example.com".to_owned(),
            ),
        ] {
            let said = ask(space, name, fields, script).await?;
            ensure!(said == wanted, "{name}: {said:?} instead of {wanted:?}");
        }
        Ok(())
    });
}

#[test]
fn dns_settings_are_the_tenants() {
    within(A, "dns", async |space| {
        let read = "cat /etc/resolv.conf > /dev/termination-log";
        // The kubelet writes options in any order.
        let lines = |said: &str| -> Vec<String> {
            let line = |line: &str| match line.strip_prefix("options ") {
                Some(options) => {
                    let mut options: Vec<&str> = options.split(' ').collect();
                    options.sort_unstable();
                    format!("options {}", options.join(" "))
                }
                None => line.to_owned(),
            };
            said.lines().map(line).collect()
        };
        let dns = space.side().get(SERVICE, "kube-system", "kube-dns").await?;
        let address = text(&dns, "/spec/clusterIP").to_owned();
        let config = json!({
            "nameservers": ["192.0.2.53"], "searches": ["example.com"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        });
        let said = ask(space, "first", json!({"dnsConfig": config}), read).await?;
        let search = format!(
            "search {}.svc.cluster.local svc.cluster.local cluster.local example.com",
            space.name
        );
        let wanted = [
            search,
            format!("nameserver {address}"),
            "nameserver 192.0.2.53".into(),
            "options edns0 ndots:2".into(),
        ];
        ensure!(lines(&said) == wanted, "{said}");

        let said = ask(
            space,
            "none",
            json!({"dnsPolicy": "None", "dnsConfig": config}),
            read,
        )
        .await?;
        ensure!(
            lines(&said)
                == [
                    "search example.com",
                    "nameserver 192.0.2.53",
                    "options edns0 ndots:2"
                ],
            "{said}"
        );

        let said = ask(space, "node", json!({"dnsPolicy": "Default"}), read).await?;
        ensure!(
            !said.contains("cluster.local") && !said.contains(&address),
            "{said}"
        );
        Ok(())
    });
}
