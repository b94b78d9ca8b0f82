use super::*;
use proptest::prelude::*;

fn get(path: &str, query: &str) -> Result<Question, Refusal> {
    ask(&Method::GET, path, query)
}

fn ask(method: &Method, path: &str, query: &str) -> Result<Question, Refusal> {
    match parse(method, path, query)? {
        Request::Pod(question) => Ok(question),
        other => panic!("{path} asks for no pod: {other:?}"),
    }
}

#[test]
fn logs_keep_their_options() {
    let query = "follow=true&tailLines=5&sinceTime=2024-01-02T03%3A04%3A05Z&stream=All&limitBytes=9&unknown=1";
    let question = get("/containerLogs/default/web-0/main", query).unwrap();
    assert_eq!((question.verb, &*question.pod), (Verb::Logs, "web-0"));
    assert_eq!(
        question.parameters,
        [
            ("follow", "true".to_owned()),
            ("tailLines", "5".into()),
            ("sinceTime", "2024-01-02T03:04:05Z".into()),
            ("limitBytes", "9".into()),
            ("container", "main".into()),
        ]
    );
}

#[test]
fn streams_are_renamed_and_commands_kept_in_order() {
    let query = "command=sh&command=-c&command=echo+%26&input=1&output=1&error=1&tty=1&container=other&stdin=true";
    let question = ask(&Method::POST, "/exec/default/web.x/main", query).unwrap();
    let names: Vec<_> = question.parameters.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "command",
            "command",
            "command",
            "stdin",
            "stdout",
            "stderr",
            "tty",
            "container"
        ]
    );
    assert_eq!(question.parameters[2].1, "echo &");
    assert_eq!(question.parameters[7].1, "main");

    let attach = ask(
        &Method::POST,
        "/attach/default/web/main",
        "command=sh&output=1",
    );
    assert_eq!(attach.unwrap().parameters[0], ("stdout", "true".to_owned()));
    let uid = ask(&Method::GET, "/exec/default/web/0a-1/main", "command=ls").unwrap();
    assert_eq!(uid.uid.as_deref(), Some("0a-1"));
    let forward = get("/portForward/default/web", "port=80,443").unwrap();
    assert_eq!(
        forward.parameters,
        [("ports", "80".to_owned()), ("ports", "443".into())]
    );
}

#[test]
fn t31_of_a_node_its_pods_and_what_they_use_can_be_got() {
    for (path, whole) in [
        ("/pods", Whole::Pods),
        ("/stats/summary", Whole::Summary),
        ("/metrics/resource", Whole::Resource),
    ] {
        let got = parse(&Method::GET, path, "only_cpu_and_memory=true");
        assert_eq!(got, Ok(Request::Node(whole)));
        assert_eq!(parse(&Method::POST, path, ""), Err(Refusal::Method));
    }
}

/// T31: nothing else that concerns the whole node, and nothing that makes a node do something.
#[test]
fn t31_what_concerns_the_whole_node_is_not_served() {
    for path in [
        "/pods/",
        "/runningpods",
        "/runningpods/",
        "/metrics",
        "/metrics/",
        "/metrics/cadvisor",
        "/metrics/probes",
        "/logs/",
        "/logs/syslog",
        "/run/default/web/main",
        "/checkpoint/default/web/main",
        "/configz",
        "/debug/pprof/profile",
        "/debug/flags/v",
        "/statusz",
        "/flagz",
        "/spec",
        "/stats",
        "/cri/exec/token",
        "/",
        "/Exec/default/web/main",
        "/exec2/default/web/main",
    ] {
        for method in [Method::GET, Method::POST, Method::PUT] {
            assert_eq!(
                parse(&method, path, ""),
                Err(Refusal::NotServed),
                "{method} {path}"
            );
        }
    }
}

/// T32: a path names a pod in exactly one way.
#[test]
fn t32_odd_paths_name_nothing() {
    for path in [
        "/exec/default/../other/web/main",
        "/exec/default/..%2fother/main",
        "/exec/default/web%2e/main",
        "/exec//web/main",
        "/exec/default//main",
        "/exec/default/web/",
        "/exec/default/web/main/",
        "/exec/default/web",
        "/exec/Default/web/main",
        "/exec/default/WEB/main",
        "/exec/default/./main",
        "/exec/default/../main",
        "/exec/-default/web/main",
        "/exec/default/web.-a/main",
        "/exec/default/web/main;x",
        "/exec/default/web/a/b/main",
        "/exec/default/web/x_y/main",
        "/containerLogs/default/web/uid/main",
        "/portForward/default",
        "/portForward/default/web/uid/more",
    ] {
        assert_eq!(parse(&Method::GET, path, ""), Err(Refusal::Path), "{path}");
    }
}

#[test]
fn other_methods_and_values_are_refused() {
    let logs = "/containerLogs/default/web/main";
    assert_eq!(ask(&Method::POST, logs, ""), Err(Refusal::Method));
    assert_eq!(
        ask(&Method::PUT, "/exec/default/web/main", ""),
        Err(Refusal::Method)
    );
    for query in [
        "follow=maybe",
        "tailLines=-1",
        "tailLines=1&tailLines=2",
        "tail=1&tailLines=2",
        "sinceTime=yesterday",
        "stream=stdout",
        "limitBytes=99999999999999999999",
        "follow=%",
    ] {
        assert_eq!(get(logs, query), Err(Refusal::Query), "{query}");
    }
    for query in ["input=1&input=1", "tty=yes"] {
        assert_eq!(
            get("/exec/default/web/main", query),
            Err(Refusal::Query),
            "{query}"
        );
    }
    for query in ["port=0", "port=65536", "port=a", "port="] {
        assert_eq!(
            get("/portForward/default/web", query),
            Err(Refusal::Query),
            "{query}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_comes_names_a_pod_plainly_or_nothing(path in "/(exec|containerLogs|attach|portForward)?/?[ -~]{0,40}", query in "[ -~]{0,40}") {
        for method in [Method::GET, Method::POST] {
            if let Ok(Request::Pod(question)) = parse(&method, &path, &query) {
                prop_assert!(is_label(&question.namespace) && is_name(&question.pod));
                prop_assert!(question.container.as_deref().is_none_or(is_label));
                // What names the pod is what stood in the path, letter for letter.
                let start = format!("/{}/{}/", path.split('/').nth(1).unwrap(), question.namespace);
                let whole = start + &question.pod;
                prop_assert!(path.starts_with(&whole));
                prop_assert!(!path.contains('%') && !path.contains("//"));
            }
        }
    }

    #[test]
    fn any_text_at_all(path in "\\PC*", query in "\\PC*") {
        let _ = parse(&Method::GET, &path, &query);
    }
}
