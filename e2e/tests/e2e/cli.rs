//! `sublet` as an admin of the super cluster uses it, right and wrong.

use anyhow::{Context, ensure};
use e2e::{
    daemon,
    kind::{CONFIG_MAP, CONTROL_PLANE, POD, SECRET, SERVICE},
    make,
    program::{Folder, Program},
    read::{condition, items, name, text, uid},
    side::Side,
    space::{run, within},
    tenant::{A, B, NAMESPACE_OF_TESTS, Tenant, conditions},
    wait::{PODS, eventually},
};
use serde_json::{Value, json};

const N: &str = NAMESPACE_OF_TESTS;

#[test]
fn tenants_are_listed_and_described() {
    run(async || {
        let (a, b) = (A.get().await?, B.get().await?);
        let sublet = Program::sublet()?;
        let table = sublet
            .run(&format!("list -n {N}"))
            .await?
            .says(&["NAME", &a.name, &b.name, "Ready"])?;
        ensure!(table.lines().count() >= 3, "{table}");
        sublet
            .run("list -A -o wide")
            .await?
            .says(&[N, &a.name, "SERVICE-CIDR", "IDENTITY"])?;
        let none = sublet.run(&format!("list -l no=such -n {N}")).await?;
        ensure!(
            none.code == 0 && none.err.contains("No tenants match -l no=such"),
            "{none:?}"
        );
        let names = sublet.run(&format!("list -n {N} -o name")).await?.ok()?;
        ensure!(
            names
                .lines()
                .any(|line| line == format!("virtualcontrolplane.sublet.dev/{}", a.name)),
            "{names}"
        );
        let list: Value =
            serde_json::from_str(&sublet.run(&format!("list -n {N} -o json")).await?.ok()?)?;
        ensure!(
            list["kind"]
                .as_str()
                .is_some_and(|kind| kind.ends_with("List")),
            "{list}"
        );
        let shows = async |format: &str| {
            let list = format!("list {} -n {N} -o {format}", a.name);
            sublet.run(&list).await?.ok()
        };
        let one: Value = serde_json::from_str(&shows("json").await?)?;
        ensure!(one["spec"]["identity"] == a.id.as_str(), "{one}");
        let yaml: Value = serde_saphyr::from_str(&shows("yaml").await?)?;
        // Its status may have changed in between.
        for part in ["apiVersion", "kind", "spec"] {
            ensure!(yaml[part] == one[part], "YAML and JSON differ in {part}");
        }
        let parts = |of: &Value| {
            of.as_object()
                .map(|parts| parts.keys().cloned().collect::<Vec<_>>())
        };
        ensure!(parts(&yaml) == parts(&one), "{yaml}");
        // As `list -o name` prints it.
        sublet
            .run(&format!(
                "describe virtualcontrolplane.sublet.dev/{} -n {N}",
                a.name
            ))
            .await?
            .says(&[&a.name, a.id.as_str(), "Ready", "Synced"])?;
        // By its identity it is found in whichever namespace it is.
        let found = sublet
            .run(&format!("list {} -o json", a.id.as_str()))
            .await?;
        let found: Value = serde_json::from_str(&found.ok()?)?;
        ensure!(
            text(&found, "/metadata/name") == a.name && text(&found, "/metadata/namespace") == N,
            "{found}"
        );
        let apart = sublet
            .run(&format!("describe nobody {}", a.id.as_str()))
            .await?;
        ensure!(
            apart.code == 2 && apart.err.contains("in several namespaces"),
            "{apart:?}"
        );
        // What a control plane uses is measured every quarter of a minute.
        eventually(PODS, "sublet top tells what a tenant uses", async || {
            let line = format!("top {} -n {N} -o json", a.name);
            let top: Value = serde_json::from_str(&sublet.run(&line).await?.ok()?)?;
            let pods = &top["tenants"][0]["controlPlane"]["pods"];
            ensure!(pods.as_u64().is_some_and(|pods| pods > 2), "{top}");
            Ok(())
        })
        .await
    });
}

#[test]
fn certificates_classes_and_held_deletions_are_shown() {
    run(async || {
        let a = A.get().await?;
        let sublet = Program::sublet()?;
        let data = async |line: &str| -> anyhow::Result<Value> {
            let line = format!("{line} -o json");
            Ok(serde_json::from_str(&sublet.run(&line).await?.ok()?)?)
        };
        let certificates = data(&format!("certs check {} -n {N}", a.name)).await?;
        let all = items(&certificates, "/certificates");
        let is_good = |one: &Value| {
            let days = one["daysLeft"].as_i64();
            one["expired"] == false && days.is_some_and(|days| days > 0)
        };
        ensure!(all.len() > 5 && all.iter().all(is_good), "{certificates:#}");
        // One of the pods may miss a probe on a busy machine.
        eventually(
            PODS,
            "all pods of the control plane are ready",
            async || {
                let report = data(&format!("describe {} -n {N}", a.name)).await?;
                let vcp = &report["virtualControlPlane"];
                ensure!(text(vcp, "/spec/identity") == a.id.as_str(), "{report:#}");
                let pods = items(&report, "/controlPlanePods");
                ensure!(
                    pods.len() > 2 && pods.iter().all(|pod| pod["ready"] == "1/1"),
                    "{report:#}"
                );
                Ok(())
            },
        )
        .await?;
        sublet.run("class list").await?.says(&["NAME", "default"])?;
        let class = data("class describe default").await?;
        ensure!(
            text(&class, "/controlPlaneClass/spec/podSecurity") == "baseline"
                && class["tenants"].as_u64().is_some_and(|users| users > 0),
            "{class:#}"
        );
        let held = data(&format!("breaker show {} -n {N}", a.name)).await?;
        ensure!(held["held"] == false, "{held:#}");
        Ok(())
    });
}

#[test]
fn who_wrote_what_in_a_tenant_stands_in_its_api_servers_log() {
    within(A, "noted", async |space| {
        let secret = json!({"metadata": {"name": "noted"}, "stringData": {"key": "which-nobody-writes-down"}});
        space.create(SECRET, secret).await?;
        let inside = space.tenant.control_plane_namespace();
        let path = format!("/api/v1/namespaces/{}/secrets", space.name);
        eventually(PODS, "the write is in the log", async || {
            let above = &space.tenant.above;
            let servers = "app.kubernetes.io/name=kube-apiserver";
            let mut log = String::new();
            for server in above.list(POD, &inside, servers).await? {
                let pod = POD.path(&inside, name(&server));
                log += &above.text(&format!("{pod}/log?sinceSeconds=600")).await?;
            }
            let told = log
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut of_it = told.filter(|line| {
                line["verb"] == "create" && text(line, "/requestURI").starts_with(&path)
            });
            let line = of_it.next().context("no line tells of it")?;
            ensure!(text(&line, "/user/username") == "sublet:admin", "{line}");
            ensure!(
                !log.contains("which-nobody-writes-down"),
                "a Secret is in the log"
            );
            Ok(())
        })
        .await
    });
}

#[test]
fn a_kubeconfig_is_handed_out() {
    run(async || {
        let a = A.get().await?;
        let sublet = Program::sublet()?;
        let printed = sublet
            .run(&format!("kubeconfig {} -n {N}", a.name))
            .await?
            .ok()?;
        let kubeconfig: Value = serde_saphyr::from_str(&printed)?;
        ensure!(kubeconfig["kind"] == "Config", "{kubeconfig}");
        let folder = Folder::make()?;
        let file = folder.path().join("a.yaml");
        sublet
            .run(&format!(
                "kubeconfig {} -n {N} -o {}",
                a.name,
                file.display()
            ))
            .await?
            .ok()?;
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file)?.permissions());
        ensure!(
            mode & 0o077 == 0,
            "others may read the kubeconfig: {mode:o}"
        );
        let kubectl = Program::kubectl(folder.path(), &std::fs::read_to_string(&file)?)?;
        kubectl.run("auth whoami").await?.says(&["sublet:admin"])?;
        let connected = format!(
            "connect {} -n {N} -- {} auth whoami",
            a.name,
            e2e::settings::kubectl()?.display()
        );
        sublet.run(&connected).await?.says(&["sublet:admin"])?;
        let failing = format!(
            "connect {} -n {N} -- {} get pod no-such",
            a.name,
            e2e::settings::kubectl()?.display()
        );
        sublet.run(&failing).await?.fails(1, &["not found"])?;
        Ok(())
    });
}

#[test]
fn a_kubeconfig_is_merged_into_ones_own_and_takes_no_others_name() {
    run(async || {
        let a = A.get().await?;
        let folder = Folder::make()?;
        let file = folder.path().join("own.yaml");
        std::fs::copy(e2e::settings::kubeconfig()?, &file)?;
        let own = Program::sublet_at(&file)?;
        let kubectl = own.like(e2e::settings::kubectl()?);
        let before = kubectl.run("config current-context").await?.ok()?;
        let merge = format!("kubeconfig {} -n {N} --merge", a.name);
        // Once more changes nothing.
        for _ in 0..2 {
            let merged = own.run(&merge).await?;
            merged.says(&[&format!("context {} is in", a.name)])?;
        }
        let whoami = format!("--context {} auth whoami", a.name);
        kubectl.run(&whoami).await?.says(&["sublet:admin"])?;
        let after = kubectl.run("config current-context").await?.ok()?;
        ensure!(after == before, "{after} instead of {before}");
        kubectl
            .run(&format!("get vcp -n {N} {}", a.name))
            .await?
            .ok()?;
        // The admin's own context stays the admin's.
        let taken = format!("{merge} --context-name {}", before.trim());
        own.run(&taken)
            .await?
            .fails(1, &["--context-name", "--force"])?;
        Ok(())
    });
}

#[test]
fn explain_and_whose_lead_from_one_side_to_the_other() {
    within(A, "explain", async |space| {
        let sublet = Program::sublet()?;
        let (tenant, ns) = (&space.tenant.name, &space.name);
        let pod = space.pod("web", make::pod_spec(make::idle())).await?;
        space.create(SERVICE, make::service("web")).await?;
        space
            .create(CONFIG_MAP, make::config_map("loose", "k", "v"))
            .await?;
        space.ready("web").await?;
        let twin = space.twin(POD, "web").await?;
        sublet
            .run(&format!("explain {tenant} pod/{ns}/web -n {N}"))
            .await?
            .says(&[&space.twin, uid(&pod), uid(&twin)])?;
        let data = sublet
            .run(&format!("explain {tenant} pod/{ns}/web -n {N} -o json"))
            .await?
            .ok()?;
        let data: Value = serde_json::from_str(&data)?;
        ensure!(
            data["synced"] == true
                && data["super"]["uid"] == uid(&twin)
                && data["tenant"]["uid"] == uid(&pod),
            "{data}"
        );
        space.twin(SERVICE, "web").await?;
        sublet
            .run(&format!("explain {tenant} svc/{ns}/web -n {N}"))
            .await?
            .says(&[&space.twin])?;
        sublet
            .run(&format!("explain {tenant} ns/{ns} -n {N}"))
            .await?
            .says(&[&space.twin])?;
        let loose = sublet
            .run(&format!("explain {tenant} cm/{ns}/loose -n {N} -o json"))
            .await?
            .ok()?;
        let loose: Value = serde_json::from_str(&loose)?;
        ensure!(
            loose["super"]["exists"] == false
                && loose["verdict"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
            "{loose}"
        );

        let mut spec = make::pod_spec(make::idle());
        spec["hostNetwork"] = true.into();
        let refused = space.pod("host", spec).await?;
        space.refused(POD, &refused, "PodSecurity").await?;
        sublet
            .run(&format!("explain {tenant} pod/{ns}/host -n {N}"))
            .await?
            .says(&["PodSecurity", "host namespaces"])?;

        let whose = format!("Pod {ns}/web of tenant {tenant}");
        sublet
            .run(&format!("whose pod/{}/web", space.twin))
            .await?
            .says(&[&whose, uid(&pod)])?;
        sublet
            .run(&format!("whose ns/{}", space.twin))
            .await?
            .says(&[ns, tenant])?;
        let data = sublet
            .run(&format!("whose svc/{}/web -o json", space.twin))
            .await?
            .ok()?;
        let data: Value = serde_json::from_str(&data)?;
        ensure!(
            data["identity"] == space.tenant.id.as_str() && data["object"]["name"] == "web",
            "{data}"
        );
        let own = space.tenant.control_plane_namespace();
        sublet
            .run(&format!("whose ns/{own}"))
            .await?
            .says(&["control plane", tenant])?;
        sublet
            .run("whose ns/kube-system")
            .await?
            .fails(1, &["belongs to no tenant"])?;
        sublet.run(&format!("events {tenant} -n {N}")).await?.ok()?;
        Ok(())
    });
}

#[test]
fn the_doctor_finds_a_healthy_cluster_healthy() {
    run(async || {
        A.get().await?;
        let sublet = Program::sublet()?;
        // Other tests make tenants that are on their way up or down meanwhile: only failures count. No daemon is stopped.
        let answer = daemon::alone(async || sublet.run("doctor -o json").await).await?;
        let findings: Value = serde_json::from_str(&answer.out)?;
        let checks = findings["checks"].as_array().cloned().unwrap_or_default();
        let about = |subject: &str| checks.iter().any(|check| check["subject"] == subject);
        for subject in ["cluster", "nodes", "admission", "roles", "share", "dns"] {
            ensure!(about(subject), "nothing of {subject}: {findings}");
        }
        let failed: Vec<&Value> = checks
            .iter()
            .filter(|check| {
                check["level"] == "fail"
                    && !check["text"]
                        .as_str()
                        .is_some_and(|text| text.contains("e2e-"))
            })
            .collect();
        ensure!(failed.is_empty(), "{failed:?}");
        ensure!(
            answer.code == 0 || findings["result"] == "fail",
            "{answer:?}"
        );
        Ok(())
    });
}

#[test]
#[ignore = "long: `cargo xtask test --all`"]
fn a_tenant_is_paused_goes_on_keeps_its_version_and_gets_new_certificates() {
    run(async || {
        let name = make::unique("e2e-pause");
        Tenant::within(&name, json!({}), async |tenant| {
            let sublet = Program::sublet()?;
            let vcp = tenant.above.get(CONTROL_PLANE, N, &name).await?;
            let version = text(&vcp, "/status/version");
            sublet
                .run(&format!("pause {name} -n {N}"))
                .await?
                .says(&["is paused", "resume"])?;
            sublet
                .run(&format!("list {name} -n {N}"))
                .await?
                .says(&["Paused"])?;
            sublet
                .run(&format!("upgrade {name} --version {version} -n {N}"))
                .await?
                .fails(1, &["is paused", "resume"])?;
            sublet
                .run(&format!("resume {name} -n {N}"))
                .await?
                .says(&["goes on"])?;
            sublet
                .run(&format!("upgrade {name} --version {version} -n {N}"))
                .await?
                .says(&["runs Kubernetes", version])?;
            sublet
                .run(&format!("upgrade {name} --version 1.2 -n {N}"))
                .await?
                .fails(2, &["doesn't offer", "1.2"])?;
            let line = format!("events {name} -n {N} -o json");
            let events: Value = serde_json::from_str(&sublet.run(&line).await?.ok()?)?;
            ensure!(events["events"].is_array(), "{events}");
            new_certificates(tenant, &sublet).await
        })
        .await
    });
}

/// All certificates but those of authorities are others afterwards; what had the old kubeconfig still has a tenant.
async fn new_certificates(tenant: &Tenant, sublet: &Program) -> anyhow::Result<()> {
    let name = &tenant.name;
    let check = format!("certs check {name} -n {N}");
    sublet.run(&check).await?.ok()?;
    let rotate = format!("certs rotate {name} -n {N} --timeout 2m");
    let rotated = sublet.run(&rotate).await?;
    rotated.says(&["certificates of", "are new"])?;
    sublet.run(&check).await?.ok()?;
    eventually(
        2 * PODS,
        "the control plane has taken them up",
        async || {
            let vcp = tenant.above.get(CONTROL_PLANE, N, name).await?;
            ensure!(condition(&vcp, "Ready") == "True", "{}", conditions(&vcp));
            tenant.side.text("/version").await?;
            Ok(())
        },
    )
    .await?;
    let certificate = |kubeconfig: &str| -> anyhow::Result<Value> {
        let config: Value = serde_saphyr::from_str(kubeconfig)?;
        Ok(config["users"][0]["user"]["client-certificate-data"].clone())
    };
    let before = certificate(&tenant.kubeconfig)?;
    let print = format!("kubeconfig {name} -n {N}");
    let anew = eventually(PODS, "the kubeconfig is another one", async || {
        let printed = sublet.run(&print).await?.ok()?;
        ensure!(certificate(&printed)? != before);
        Ok(printed)
    })
    .await?;
    let side = Side::connect("the new kubeconfig", &anew).await?;
    side.text("/version").await?;
    Ok(())
}

#[test]
fn wrong_input_gets_one_clear_line_and_a_code() {
    run(async || {
        let a = A.get().await?;
        let sublet = Program::sublet()?;
        let long = "a".repeat(64);
        let usage = [
            ("list --nonsense".to_owned(), "--nonsense"),
            ("demolish x".to_owned(), "demolish"),
            ("list -n Bad_NS".to_owned(), "Bad_NS"),
            ("install -n x".to_owned(), "-n"),
            ("create".to_owned(), "NAME"),
            (format!("create Team_A -n {N}"), "team-a"),
            (format!("create {long} -n {N}"), "63"),
            (format!("create 1a -n {N}"), "letter"),
            ("create x --replicas 5".to_owned(), "3"),
            (format!("explain {} web -n {N}", a.name), "KIND"),
            (
                format!("create e2e-x --version 1.2 --no-wait -n {N}"),
                "1.2",
            ),
            ("whose nosuchkind/a/b".to_owned(), "nosuchkind"),
            ("list --context no-such".to_owned(), "no-such"),
            (
                "list --kubeconfig /no-such/file".to_owned(),
                "/no-such/file",
            ),
            ("list -o xml".to_owned(), "json"),
            ("list --user no-such".to_owned(), "no-such"),
            ("list --cluster no-such".to_owned(), "no-such"),
            (format!("list {} -l a=b", a.name), "--selector"),
        ];
        for (line, word) in usage {
            sublet.run(&line).await?.fails(2, &["error", word])?;
        }
        let failures = [
            (
                format!("describe no-such -n {N}"),
                "there is no tenant \"no-such\"",
            ),
            (format!("describe e2e-c -n {N}"), a.name.as_str()),
            (format!("delete no-such --yes -n {N}"), "no tenant"),
            (format!("describe vcp/no-such -n {N}"), "\"no-such\""),
            (
                format!("create e2e-x --class no-such --no-wait -n {N}"),
                "no-such",
            ),
            (format!("kubeconfig no-such -n {N}"), "no tenant"),
            (format!("explain no-such pod/a/b -n {N}"), "no tenant"),
            (format!("create {} --no-wait -n {N}", a.name), "exists"),
            (
                "whose pod/no-such/no-such".to_owned(),
                "no Pod no-such/no-such",
            ),
        ];
        for (line, word) in failures {
            let said = sublet.run(&line).await?.fails(1, &["error", word])?;
            ensure!(said.trim().lines().count() <= 3, "{line}: {said}");
        }
        Ok(())
    });
}

#[test]
fn an_unreachable_or_unwilling_cluster_is_named() {
    run(async || {
        let a = A.get().await?;
        let folder = Folder::make()?;
        let file = folder.path().join("dead.yaml");
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "x",
            "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:1"}}],
            "users": [{"name": "x", "user": {"token": "x"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
        });
        std::fs::write(&file, kubeconfig.to_string())?;
        let sublet = Program::sublet()?;
        let dead = sublet.with_kubeconfig(&file);
        for line in ["list", "create x --no-wait", "doctor"] {
            let answer = dead.run(line).await?;
            ensure!(answer.code == 1, "{answer:?}");
            let said = format!("{}{}", answer.out, answer.err);
            ensure!(said.contains("https://127.0.0.1:1"), "{said}");
        }
        // A tenant's own API server is a cluster without Sublet in it.
        let file = folder.path().join("tenant.yaml");
        std::fs::write(&file, &a.kubeconfig)?;
        sublet
            .with_kubeconfig(&file)
            .run("list")
            .await?
            .fails(1, &["isn't installed", "install"])?;
        Ok(())
    });
}

#[test]
fn a_missing_right_is_named() {
    within(A, "noright", async |space| {
        // An account of the super cluster that may do nothing.
        let path = e2e::kind::SERVICE_ACCOUNT.path(N, "default") + "/token";
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
        let token = space
            .above()
            .request(http::Method::POST, &path, Some(request))
            .await?;
        let admin = std::fs::read_to_string(e2e::settings::kubeconfig()?)?;
        let mut kubeconfig: Value = serde_saphyr::from_str(&admin)?;
        kubeconfig["users"][0]["user"] = json!({"token": token["status"]["token"]});
        let folder = Folder::make()?;
        let file = folder.path().join("weak.yaml");
        std::fs::write(&file, kubeconfig.to_string())?;
        let weak = Program::sublet()?.with_kubeconfig(&file);
        weak.run(&format!("list -n {N}"))
            .await?
            .fails(1, &["list", "virtualcontrolplanes"])?;
        weak.run(&format!("create x --no-wait -n {N}"))
            .await?
            .fails(1, &["virtualcontrolplanes"])?;
        // An admin sees it as that account does.
        let account = format!("system:serviceaccount:{N}:default");
        let as_it = format!("list -n {N} --as {account}");
        let said = Program::sublet()?.run(&as_it).await?;
        said.fails(1, &["list", "virtualcontrolplanes", &account])?;
        Ok(())
    });
}

#[test]
fn help_version_and_completion_work_without_a_cluster() {
    run(async || {
        let sublet =
            Program::sublet()?.with_kubeconfig(std::path::Path::new("/no-such/kubeconfig"));
        sublet
            .run("--help")
            .await?
            .says(&["create", "explain", "Examples"])?;
        sublet
            .run("create --help")
            .await?
            .says(&["--class", "Examples"])?;
        sublet.run("completion bash").await?.says(&["sublet"])?;
        // More than a pipe holds, and a reader that goes after a line.
        let line = format!("{} | head -1", sublet.shell_line("completion bash"));
        let mut shell = tokio::process::Command::new("bash");
        let piped = shell.args(["-o", "pipefail", "-c", &line]).output().await?;
        ensure!(piped.status.success(), "{piped:?}");
        ensure!(piped.stderr.is_empty(), "{piped:?}");
        let version = sublet.run("--version").await?.ok()?;
        ensure!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        let bare = sublet.run("").await?;
        ensure!(bare.code == 2 && bare.err.contains("Usage"), "{bare:?}");
        Ok(())
    });
}
