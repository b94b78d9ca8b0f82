//! An API server of the tenant's own behind the tenant's, with a certificate that cert-manager issued.

use anyhow::{Context, ensure};
use e2e::{
    kind::{API_SERVICE, CLASS, DEPLOYMENT, Kind},
    program::Program,
    read::{condition, name, text},
    space::Space,
    wait::{PODS, SOON, eventually},
};
use serde_json::json;

const MANIFEST: &str = include_str!("aggregated.yaml");
/// Where it runs.
pub(super) const HOME: &str = "wardle";
const FLUNDER: Kind = Kind {
    api_version: "wardle.example.com/v1alpha1",
    name: "Flunder",
    plural: "flunders",
};

/// Installs it in `home`, and makes, lists and deletes objects of its kind in `team`.
pub(super) async fn works(kubectl: &Program, home: &Space, team: &Space) -> anyhow::Result<()> {
    // The etcd that the tenant's own control plane has.
    let class = home.above().get(CLASS, "", "default").await?;
    let etcd = text(&class, "/spec/versions/0/images/etcd");
    ensure!(!etcd.is_empty(), "the default class names no etcd");
    let manifest = MANIFEST.replace("ETCD", etcd);
    let applied = kubectl.feed("apply --server-side -f -", &manifest);
    applied.await?.ok()?;
    home.rolled_out(DEPLOYMENT, "api", 1).await?;

    let side = team.side();
    let service = "v1alpha1.wardle.example.com";
    eventually(PODS, "the aggregated API is available", async || {
        let found = side.get(API_SERVICE, "", service).await?;
        let injected = text(&found, "/spec/caBundle");
        ensure!(!injected.is_empty(), "it has no authority yet");
        ensure!(
            condition(&found, "Available") == "True",
            "{}",
            found["status"]
        );
        Ok(())
    })
    .await?;

    let flunder = json!({"metadata": {"name": "first", "labels": {"sublet": "yes"}}, "spec": {"reference": "second"}});
    eventually(
        SOON,
        "an object of the aggregated API is made",
        async || match team.create(FLUNDER, flunder.clone()).await {
            Err(problem) if problem.code != 409 => Err(problem.into()),
            _ => Ok(()),
        },
    )
    .await?;
    let found = side.list(FLUNDER, &team.name, "sublet=yes").await?;
    let names: Vec<&str> = found.iter().map(name).collect();
    ensure!(names == ["first"], "{names:?}");
    let line = format!("-n {} get flunders.wardle.example.com", team.name);
    kubectl.run(&line).await?.says(&["first"])?;
    team.delete(FLUNDER, "first").await?;
    let gone = team.find(FLUNDER, "first").await?;
    ensure!(gone.is_none(), "it is still there");
    // Without it the tenant's API server would keep asking a server that goes first.
    let deleted = side.delete(API_SERVICE, "", service).await;
    deleted.context("the APIService is deleted")
}
