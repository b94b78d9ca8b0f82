//! `sublet version`: of this program, of the cluster, and of Sublet's daemons.

use crate::{
    args::{Global, Program},
    cluster::Cluster,
    error, manifest,
    output::{self, Data},
};
use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};
use std::process::ExitCode;

/// Flags of `sublet version`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Ask no cluster
    #[arg(long)]
    client: bool,
    /// Print it as data
    #[arg(short, long, value_enum)]
    output: Option<Data>,
}

const EXAMPLES: &str = "\
Examples:
  sublet version
  sublet version --client -o json";

/// Prints the versions. An unreachable cluster is told on stderr and is a failure, after what is known.
pub(crate) async fn run(args: &Args, global: &Global, program: Program) -> Result<ExitCode> {
    let mut versions =
        json!({"client": {"version": env!("CARGO_PKG_VERSION"), "kubernetes": "1.36"}});
    let asked = if args.client {
        Ok(())
    } else {
        server(global, program, &mut versions).await
    };
    let text = match args.output {
        Some(format) => format.text(&versions)?,
        None => words(&versions),
    };
    output::print(&text)?;
    asked.map(|()| ExitCode::SUCCESS)
}

async fn server(global: &Global, program: Program, versions: &mut Value) -> Result<()> {
    let cluster = Cluster::connect(global, program).await?;
    let clear = |err: kube::Error| cluster.clear(err.into());
    let info = cluster.client.apiserver_version().await.map_err(clear)?;
    versions["cluster"] =
        json!({"version": info.git_version.trim_start_matches('v'), "url": cluster.url});
    let mut daemons = vec![];
    for daemon in manifest::deployments(&manifest::daemons()?) {
        let api: Api<Deployment> = Api::namespaced(cluster.client.clone(), &daemon.namespace);
        match api.get_opt(&daemon.name).await {
            Ok(Some(deployment)) => {
                let images = manifest::images(&serde_json::to_value(&deployment)?);
                daemons.push(json!({"name": daemon.name, "images": images}));
            }
            Ok(None) => {}
            Err(err) if error::is_forbidden(&err) => break,
            Err(err) => return Err(clear(err)),
        }
    }
    versions["daemons"] = daemons.into();
    Ok(())
}

fn words(versions: &Value) -> String {
    let text = |pointer: &str| {
        versions
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mut lines = vec![format!("sublet {}", text("/client/version"))];
    if versions.get("cluster").is_some() {
        lines.push(format!(
            "Kubernetes {} at {}",
            text("/cluster/version"),
            text("/cluster/url")
        ));
    }
    match versions["daemons"].as_array().map(Vec::as_slice) {
        Some([]) => lines.push("Sublet isn't installed in this cluster".to_owned()),
        Some(daemons) => lines.extend(daemons.iter().map(|daemon| {
            let images: Vec<&str> = daemon["images"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            format!(
                "{} {}",
                daemon["name"].as_str().unwrap_or_default(),
                images.join(", ")
            )
        })),
        None => {}
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_told() {
        let client = json!({"client": {"version": "0.1.0"}});
        assert_eq!(words(&client), "sublet 0.1.0\n");
        let all = json!({
            "client": {"version": "0.1.0"}, "cluster": {"version": "1.36.3", "url": "https://k"},
            "daemons": [{"name": "sublet-manager", "images": ["m:1"]}],
        });
        assert_eq!(
            words(&all),
            "sublet 0.1.0\nKubernetes 1.36.3 at https://k\nsublet-manager m:1\n"
        );
    }
}
