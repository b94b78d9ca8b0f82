//! logs, exec, attach, port-forward, cp: as on any cluster.

use crate::kubectl::with_kubectl;
use anyhow::{Context, ensure};
use e2e::{
    make,
    program::{Folder, Program},
    read::items,
    space::Space,
    wait::{PODS, SOON, eventually},
};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

/// A pod with a shell that waits.
async fn shell(space: &Space, name: &str) -> anyhow::Result<()> {
    let spec = make::pod_spec(make::shell(
        "trap 'exit 0' TERM; echo ready; sleep 3600 & wait",
    ));
    space.pod(name, spec).await?;
    space.ready(name).await?;
    Ok(())
}

#[test]
fn logs_in_all_their_forms() {
    with_kubectl("logs", async |space, kubectl| {
        let n = format!("-n {} logs", space.name);
        // The two streams are read apart from each other; only time puts their lines into an order.
        let script =
            "for i in 1 2 3 4 5 6; do echo line $i; done; sleep 2; echo oops >&2; sleep 3600";
        space
            .pod("web", make::pod_spec(make::shell(script)))
            .await?;
        space.ready("web").await?;
        let all = "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\noops\n";
        eventually(SOON, "all lines are there", async || {
            ensure!(kubectl.run(&format!("{n} web")).await?.ok()? == all);
            Ok(())
        })
        .await?;
        for (flags, expected) in [
            ("--tail=2", "line 6\noops\n"),
            ("--tail=0", ""),
            ("--limit-bytes=9", "line 1\nli"),
            ("--since=1h", all),
            ("--since-time=2020-01-01T00:00:00Z", all),
            ("-c main --tail=1", "oops\n"),
            (
                "--all-containers --prefix --tail=1",
                "[pod/web/main] oops\n",
            ),
        ] {
            let said = kubectl.run(&format!("{n} web {flags}")).await?.ok()?;
            ensure!(said == expected, "{flags}: {said:?}");
        }
        let stamped = kubectl
            .run(&format!("{n} web --timestamps --tail=1"))
            .await?
            .ok()?;
        ensure!(
            stamped.starts_with("20") && stamped.contains("T") && stamped.ends_with("Z oops\n"),
            "{stamped}"
        );
        kubectl
            .run(&format!("{n} web -c other"))
            .await?
            .fails(1, &["container other is not valid for pod web"])?;
        kubectl.run(&format!("{n} web --previous")).await?.fails(
            1,
            &["previous terminated container \"main\" in pod \"web\" not found"],
        )?;
        kubectl
            .run(&format!("{n} none"))
            .await?
            .fails(1, &["NotFound"])?;
        Ok(())
    });
}

#[test]
fn logs_follow_to_the_end_and_tell_of_the_container_before() {
    with_kubectl("follow", async |space, kubectl| {
        let n = format!("-n {} logs", space.name);
        let script = "for i in 1 2 3; do echo line $i; sleep 1; done";
        space.pod("brief", make::once(make::shell(script))).await?;
        eventually(PODS, "the pod has begun", async || {
            kubectl.run(&format!("{n} brief")).await?.says(&["line 1"])
        })
        .await?;
        let followed = kubectl.run(&format!("{n} brief -f")).await?.ok()?;
        ensure!(followed == "line 1\nline 2\nline 3\n", "{followed:?}");

        // The first incarnation ends at once; the second stays.
        let mut again = make::shell(
            "if test -e /state/seen; then echo second; sleep 3600; else touch /state/seen; echo first; exit 1; fi",
        );
        again["volumeMounts"] = json!([{"name": "state", "mountPath": "/state"}]);
        let mut spec = make::pod_spec(again);
        spec["volumes"] = json!([{"name": "state", "emptyDir": {}}]);
        space.pod("again", spec).await?;
        eventually(PODS, "the second incarnation speaks", async || {
            kubectl.run(&format!("{n} again")).await?.says(&["second"])
        })
        .await?;
        let before = kubectl.run(&format!("{n} again --previous")).await?.ok()?;
        ensure!(before == "first\n", "{before:?}");

        let stuck = json!({"name": "main", "image": "example.invalid/none:1", "imagePullPolicy": "IfNotPresent"});
        space.pod("stuck", make::pod_spec(stuck)).await?;
        eventually(PODS, "a pod that can't start says so", async || {
            let said = kubectl
                .run(&format!("{n} stuck"))
                .await?
                .fails(1, &["is waiting to start"])?;
            ensure!(!said.contains(&space.twin), "{said}");
            Ok(())
        })
        .await?;
        Ok(())
    });
}

#[test]
fn exec_has_streams_and_exit_codes() {
    with_kubectl("exec", async |space, kubectl| {
        shell(space, "web").await?;
        let n = format!("-n {} exec", space.name);
        let spdy = kubectl.with_variable("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
        for kubectl in [kubectl, &spdy] {
            let both = kubectl
                .run(&format!("{n} web -- ls /etc/passwd /none"))
                .await?;
            ensure!(both.code == 1, "{both:#?}");
            ensure!(both.out == "/etc/passwd\n", "{both:#?}");
            ensure!(both.err.contains("/none: No such file"), "{both:#?}");
            let seven = kubectl.feed(&format!("{n} -i web -- sh"), "exit 7").await?;
            ensure!(seven.code == 7, "{seven:#?}");
            let input = "a line of input\n".repeat(100_000);
            let counted = kubectl
                .feed(&format!("{n} -i web -- wc -c"), &input)
                .await?
                .ok()?;
            ensure!(counted.trim() == input.len().to_string(), "{counted}");
            let echoed = kubectl
                .feed(&format!("{n} -i web -- cat"), &input)
                .await?
                .ok()?;
            ensure!(echoed == input, "{} bytes came back", echoed.len());
        }
        let none = kubectl.run(&format!("{n} web -- /none")).await?;
        ensure!(
            none.code != 0 && none.err.contains("no such file or directory"),
            "{none:#?}"
        );
        kubectl
            .run(&format!("{n} web -c other -- ls"))
            .await?
            .fails(1, &["container other is not valid for pod web"])?;
        let odd = kubectl
            .run(&format!("{n} web -- printf %s|%s a&b=c+%2f ü"))
            .await?
            .ok()?;
        ensure!(odd == "a&b=c+%2f|ü", "{odd:?}");
        Ok(())
    });
}

/// Runs a line in a terminal of 45 rows and 123 columns.
async fn in_a_terminal(line: &str) -> anyhow::Result<String> {
    let output = Command::new("script")
        .args([
            "-qec",
            &format!("stty rows 45 cols 123; {line}"),
            "/dev/null",
        ])
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(PODS, output).await??;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn exec_in_a_terminal_knows_its_size() {
    with_kubectl("terminal", async |space, kubectl| {
        shell(space, "web").await?;
        // The size comes a moment after the terminal.
        let script = "for i in 1 2 3 4 5 6 7 8 9; do test \"$(stty size)\" = \"45 123\" && break; sleep 1; done; \
                      stty size; tty; exit 5";
        let line = format!("-n {} exec -it web -- sh -c '{script}'", space.name);
        let said = in_a_terminal(&(kubectl.shell_line(&line) + "; echo code $?")).await?;
        for word in ["45 123", "/dev/pts/", "code 5"] {
            ensure!(said.contains(word), "{word:?} is missing: {said}");
        }
        Ok(())
    });
}

/// Runs a line in a terminal of 45 rows and 123 columns, which is made 50 by 100 once the line has told its size, and in which
/// somebody presses Ctrl-C once it has told the new one.
async fn in_a_terminal_that_changes(line: &str) -> anyhow::Result<String> {
    let folder = Folder::make()?;
    let told = folder.path().join("told");
    let line = format!(
        "stty rows 45 cols 123; (until test -e {}; do sleep 0.1; done; stty rows 50 cols 100 </dev/tty) & {line}",
        told.display()
    );
    let mut script = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let keyboard = script.stdin.take();
    let screen = script.stdout.take();
    let (mut keyboard, mut screen) = keyboard.zip(screen).context("it has no terminal")?;
    let mut said = String::new();
    let reading = async {
        let (mut bytes, mut is_pressed) = ([0; 1024], false);
        loop {
            let read = screen.read(&mut bytes).await?;
            said.push_str(&String::from_utf8_lossy(&bytes[..read]));
            if said.contains("sized 45 123") && !told.exists() {
                std::fs::write(&told, "")?;
            }
            if said.contains("sized 50 100") && !is_pressed {
                is_pressed = true;
                keyboard.write_all(b"\x03").await?;
                keyboard.flush().await?;
            }
            if read == 0 {
                return Ok::<(), anyhow::Error>(());
            }
        }
    };
    let ended = tokio::time::timeout(PODS, reading).await;
    ended.with_context(|| format!("it goes on: {said}"))??;
    Ok(said)
}

#[test]
fn exec_in_a_terminal_hears_of_another_size_and_of_ctrl_c() {
    with_kubectl("window", async |space, kubectl| {
        shell(space, "web").await?;
        let script = "trap \"echo interrupted; exit 7\" INT; last=; while true; do now=$(stty size); \
                      test \"$now\" = \"$last\" || echo sized $now; last=$now; sleep 1; done";
        let line = format!("-n {} exec -it web -- sh -c '{script}'", space.name);
        let line = kubectl.shell_line(&line) + "; echo code $?";
        let said = in_a_terminal_that_changes(&line).await?;
        for word in ["sized 45 123", "sized 50 100", "interrupted", "code 7"] {
            ensure!(said.contains(word), "{word:?} is missing: {said}");
        }
        Ok(())
    });
}

#[test]
fn attach_joins_the_first_process() {
    with_kubectl("attach", async |space, kubectl| {
        let mut container = make::shell("while read line; do echo \"got $line\"; done");
        container["stdin"] = true.into();
        container["stdinOnce"] = true.into();
        space.pod("echo", make::once(container)).await?;
        space.ready("echo").await?;
        let line = format!("-n {} attach -i echo", space.name);
        let said = kubectl.feed(&line, "one\ntwo\n").await?.ok()?;
        ensure!(
            said.contains("got one") && said.contains("got two"),
            "{said}"
        );
        space.outcome("echo").await?;

        // The shell's own blank: the line is split at all others.
        let run = format!(
            "-n {} run once --image={} --restart=Never --image-pull-policy=IfNotPresent -i --rm --quiet -- sh -c cat;echo${{IFS}}said",
            space.name,
            make::BUSYBOX
        );
        let said = kubectl.feed(&run, "hello\n").await?.ok()?;
        ensure!(said.contains("hello") && said.contains("said"), "{said}");
        Ok(())
    });
}

/// A port-forward that runs, and its local port.
async fn forward(kubectl: &Program, line: &str) -> anyhow::Result<(Child, u16)> {
    let mut child = kubectl.start(line)?;
    let out = child.stdout.take().context("the output is a pipe")?;
    let mut lines = BufReader::new(out).lines();
    let first = tokio::time::timeout(PODS, lines.next_line()).await??;
    let first = first.with_context(|| format!("{line} says nothing"))?;
    let port = first
        .strip_prefix("Forwarding from 127.0.0.1:")
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((
        child,
        port.with_context(|| format!("no port in {first:?}"))?,
    ))
}

async fn get(port: u16, path: &str) -> anyhow::Result<String> {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, anyhow::Error>(text)
    };
    tokio::time::timeout(PODS, exchange).await?
}

#[test]
fn port_forward_carries_connections() {
    with_kubectl("forward", async |space, kubectl| {
        let labels = json!({"name": "web", "labels": {"app": "web"}});
        let pod = json!({"metadata": labels, "spec": make::pod_spec(make::server())});
        space.create(e2e::kind::POD, pod).await?;
        space
            .create(e2e::kind::SERVICE, make::service("web"))
            .await?;
        space.ready("web").await?;
        let spdy = kubectl.with_variable("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
        for (kubectl, what) in [(kubectl, "pod/web :8080"), (&spdy, "service/web :80")] {
            let line = format!("-n {} port-forward {what}", space.name);
            let (mut child, port) = forward(kubectl, &line).await?;
            for _ in 0..3 {
                let said = get(port, "/hostname").await?;
                ensure!(
                    said.starts_with("HTTP/1.1 200") && said.ends_with("web"),
                    "{said}"
                );
            }
            let (one, two) = tokio::join!(get(port, "/hostname"), get(port, "/echo?msg=two"));
            ensure!(one?.ends_with("web") && two?.ends_with("two"));
            child.kill().await?;
        }
        Ok(())
    });
}

#[test]
fn cp_copies_both_ways() {
    with_kubectl("cp", async |space, kubectl| {
        shell(space, "web").await?;
        let folder = e2e::program::Folder::make()?;
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
        let (there, back) = (folder.path().join("there"), folder.path().join("back"));
        std::fs::write(&there, &bytes)?;
        let n = format!("-n {} cp", space.name);
        let there = there.display();
        kubectl
            .run(&format!("{n} {there} web:/tmp/file"))
            .await?
            .ok()?;
        let to = back.display();
        kubectl
            .run(&format!("{n} web:/tmp/file {to}"))
            .await?
            .ok()?;
        ensure!(std::fs::read(&back)? == bytes, "the file came back changed");
        Ok(())
    });
}

#[test]
fn a_debug_container_can_be_joined() {
    with_kubectl("debug", async |space, kubectl| {
        shell(space, "web").await?;
        let line = format!(
            "-n {} debug web --image={} -c probe -i --attach --quiet --profile=baseline -- cat /etc/hostname",
            space.name,
            make::BUSYBOX
        );
        kubectl.run(&line).await?.ok()?;
        let logs = format!("-n {} logs web -c probe", space.name);
        eventually(PODS, "the debug container has spoken", async || {
            kubectl.run(&logs).await?.says(&["web"])
        })
        .await?;
        Ok(())
    });
}

/// Whatever pod a controller names: many at once.
#[test]
fn logs_of_a_deployment_and_many_streams_at_once() {
    with_kubectl("many", async |space, kubectl| {
        let spec = make::pod_spec(make::shell("echo hello; sleep 3600"));
        let deployment = make::deployment("web", 2, spec);
        space.create(e2e::kind::DEPLOYMENT, deployment).await?;
        space.rolled_out(e2e::kind::DEPLOYMENT, "web", 2).await?;
        let n = format!("-n {}", space.name);
        eventually(SOON, "both pods have spoken", async || {
            let logs = kubectl.run(&format!("{n} logs -l app=web")).await?.ok()?;
            ensure!(logs == "hello\nhello\n", "{logs:?}");
            Ok(())
        })
        .await?;
        kubectl
            .run(&format!("{n} exec deploy/web -- hostname"))
            .await?
            .says(&["web-"])?;
        let pods = space.pods("app=web").await?;
        let path = |pod: &Value| {
            let name = e2e::read::name(pod);
            format!(
                "/api/v1/namespaces/{}/pods/{name}/log?follow=true&tailLines=1",
                space.name
            )
        };
        ensure!(items(&pods[0], "/spec/containers").len() == 1);
        let mut held = vec![];
        for pod in pods.iter().cycle().take(40) {
            let mut stream = Box::pin(space.side().lines(&path(pod)).await?);
            let first = tokio::time::timeout(PODS, futures::StreamExt::next(&mut stream)).await?;
            ensure!(first.as_deref() == Some("hello"), "{first:?}");
            held.push(stream);
        }
        Ok(())
    });
}
