//! What controllers of the tenant make of Deployments, StatefulSets and Jobs.

use anyhow::ensure;
use e2e::{
    kind::{DEPLOYMENT, JOB, POD, SERVICE, STATEFUL_SET},
    make,
    read::{brief, condition, name, text, uid},
    space::within,
    tenant::A,
    wait::{PODS, eventually},
};
use serde_json::{Value, json};

#[test]
fn a_deployment_rolls_out_and_scales() {
    within(A, "deploy", async |space| {
        space
            .create(
                DEPLOYMENT,
                make::deployment("web", 2, make::pod_spec(make::idle())),
            )
            .await?;
        space.rolled_out(DEPLOYMENT, "web", 2).await?;
        let first = space.pods("app=web").await?;

        let patch = json!({"spec": {"template": {"metadata": {"annotations": {"release": "2"}}}}});
        space.merge(DEPLOYMENT, "web", patch).await?;
        space.rolled_out(DEPLOYMENT, "web", 2).await?;
        eventually(PODS, "the old pods are gone on both sides", async || {
            let mut all = space.pods("app=web").await?;
            all.extend(space.above().list(POD, &space.twin, "app=web").await?);
            let old = all
                .iter()
                .find(|pod| first.iter().any(|before| name(before) == name(pod)));
            ensure!(old.is_none(), "{}", brief(old.unwrap_or(&Value::Null)));
            Ok(())
        })
        .await?;

        for replicas in [3u64, 0] {
            space
                .merge(DEPLOYMENT, "web", json!({"spec": {"replicas": replicas}}))
                .await?;
            eventually(
                PODS,
                &format!("both sides have {replicas} pods"),
                async || {
                    let own = space.pods("app=web").await?;
                    let twins = space.above().list(POD, &space.twin, "app=web").await?;
                    let ready = own
                        .iter()
                        .filter(|pod| condition(pod, "Ready") == "True")
                        .count();
                    let counts = (own.len() as u64, ready as u64, twins.len() as u64);
                    ensure!(
                        counts == (replicas, replicas, replicas),
                        "own, ready, super: {counts:?}"
                    );
                    Ok(())
                },
            )
            .await?;
        }
        Ok(())
    });
}

#[test]
fn a_stateful_set_has_stable_names_in_dns() {
    within(A, "stateful", async |space| {
        let mut service = make::service("db");
        service["spec"]["clusterIP"] = "None".into();
        service["spec"]["ports"] = json!([{"port": 8080}]);
        space.create(SERVICE, service).await?;
        let mut set = make::deployment("db", 2, make::pod_spec(make::server()));
        set["spec"]["serviceName"] = "db".into();
        space.create(STATEFUL_SET, set).await?;
        space.rolled_out(STATEFUL_SET, "db", 2).await?;
        // A pod that is lost comes back under its name. Nobody has asked for that yet: CoreDNS would answer from its cache
        // for up to 30 seconds.
        let before = space.get(POD, "db-1").await?;
        space.delete(POD, "db-1").await?;
        let back = |pod: &Value| uid(pod) != uid(&before) && condition(pod, "Ready") == "True";
        let after = eventually(PODS, "db-1 is back", async || {
            let pod = space.get(POD, "db-1").await?;
            ensure!(back(&pod), "{}", brief(&pod));
            Ok(pod)
        })
        .await?;
        ensure!(
            text(&after, "/status/podIP") != text(&before, "/status/podIP"),
            "its name must lead to another address: {}",
            brief(&after)
        );
        let script = format!(
            "for pod in db-0 db-1; do for name in $pod.db $pod.db.{}.svc.cluster.local; do \
             until wget -T 5 -qO /tmp/said http://$name:8080/hostname; do sleep 1; done; \
             cat /tmp/said >> /dev/termination-log; echo >> /dev/termination-log; done; done",
            space.name
        );
        let said = space.ask("client", &script).await?;
        ensure!(said == "db-0\ndb-0\ndb-1\ndb-1", "{said:?}");
        Ok(())
    });
}

#[test]
fn a_job_completes() {
    within(A, "job", async |space| {
        let job = json!({
            "metadata": {"name": "sum"},
            "spec": {
                "completions": 3, "parallelism": 3, "backoffLimit": 0,
                "template": {"spec": make::once(make::shell("echo done > /dev/termination-log"))},
            },
        });
        space.create(JOB, job).await?;
        let done = space
            .like(JOB, "sum", "is complete", PODS, |job| {
                condition(job, "Complete") == "True"
            })
            .await?;
        ensure!(done["status"]["succeeded"] == 3, "{}", done["status"]);
        let pods = space.pods("batch.kubernetes.io/job-name=sum").await?;
        let words: Vec<&str> = pods.iter().map(e2e::read::last_words).collect();
        ensure!(words == ["done"; 3], "{words:?}");
        Ok(())
    });
}
