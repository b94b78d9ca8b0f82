use super::*;

const WRITER: Writer<'_> = Writer {
    manager: "test",
    now: "2026-01-01T00:00:00Z",
};

fn store() -> Store {
    let mut store = Store::new(100, 5);
    let namespace = json!({"metadata": {"name": "a"}});
    store
        .create(index("Namespace"), "", namespace, "n", WRITER)
        .unwrap();
    store
}

fn map(store: &mut Store, name: &str, labels: &Value) -> Result<Arc<Stored>, Refusal> {
    let value = json!({"metadata": {"name": name, "labels": labels}, "data": {"x": "0"}});
    store.create(
        index("ConfigMap"),
        "a",
        value,
        &format!("uid-{name}"),
        WRITER,
    )
}

fn set(store: &mut Store, name: &str, pointer: &str, to: Value) -> Result<Arc<Stored>, Refusal> {
    store.change(index("ConfigMap"), ("a", name), "", WRITER, |value| {
        *value.pointer_mut(pointer).unwrap() = to;
        Ok(())
    })
}

fn told(store: &Store, version: u64, selector: &Selector) -> Vec<(Event, String, u64)> {
    let changes = store.since(index("ConfigMap"), version).unwrap();
    let told = changes.filter_map(|change| change.told("a", selector));
    told.map(|(event, object)| (event, object.name.clone(), object.version))
        .collect()
}

#[test]
fn versions_go_up_with_each_write_and_not_without_a_change() {
    let mut store = store();
    let first = map(&mut store, "one", &json!({})).unwrap();
    assert_eq!((first.version, store.version()), (102, 102));
    let same = set(&mut store, "one", "/data/x", "0".into()).unwrap();
    assert_eq!(same.version, 102, "nothing changed");
    let next = set(&mut store, "one", "/data/x", "1".into()).unwrap();
    assert_eq!((next.version, next.uid.as_str()), (103, "uid-one"));
    assert_eq!(map(&mut store, "one", &json!({})).unwrap_err().code, 409);
}

#[test]
fn a_namespace_must_be_there() {
    let mut store = store();
    let value = json!({"metadata": {"name": "x"}});
    let refused = store.create(index("ConfigMap"), "b", value, "u", WRITER);
    assert_eq!(refused.unwrap_err().code, 404);
}

#[test]
fn a_watch_from_a_version_is_told_what_came_later_as_its_selector_sees_it() {
    let mut store = store();
    let mut selector = Selector::default();
    selector.labels("app=x").unwrap();
    map(&mut store, "one", &json!({"app": "x"})).unwrap();
    map(&mut store, "two", &json!({"app": "y"})).unwrap();
    let all = Selector::default();
    assert_eq!(told(&store, 102, &all), [(Event::Added, "two".into(), 103)]);
    assert_eq!(told(&store, 102, &selector), []);
    set(&mut store, "one", "/metadata/labels/app", "z".into()).unwrap();
    set(&mut store, "two", "/metadata/labels/app", "x".into()).unwrap();
    let expected = [
        (Event::Deleted, "one".into(), 104),
        (Event::Added, "two".into(), 105),
    ];
    assert_eq!(told(&store, 103, &selector), expected);
    let kind = index("ConfigMap");
    store
        .delete(kind, "a", "two", &Preconditions::default(), WRITER.now)
        .unwrap();
    assert_eq!(
        told(&store, 105, &selector),
        [(Event::Deleted, "two".into(), 106)]
    );
}

#[test]
fn what_is_too_long_ago_is_forgotten() {
    let mut store = store();
    map(&mut store, "one", &json!({})).unwrap();
    for number in 1..=5 {
        set(&mut store, "one", "/data/x", number.to_string().into()).unwrap();
    }
    let kind = index("ConfigMap");
    assert!(
        store.since(kind, 101).is_err(),
        "its first change isn't kept"
    );
    assert_eq!(store.since(kind, 102).unwrap().count(), 5);
}

#[test]
fn pages_follow_each_other_at_one_version() {
    let mut store = store();
    for name in ["one", "three", "two"] {
        map(&mut store, name, &json!({})).unwrap();
    }
    let kind = index("ConfigMap");
    let all = Selector::default();
    let first = store.list(kind, "", &all, None, 2).unwrap();
    map(&mut store, "zero", &json!({})).unwrap();
    let second = store
        .list(kind, "", &all, first.next.as_deref(), 2)
        .unwrap();
    let names = |page: &Page| {
        page.objects
            .iter()
            .map(|object| object.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&first), ["one", "three"]);
    assert_eq!(names(&second), ["two", "zero"]);
    assert_eq!((first.version, second.version), (104, 104));
    assert!(second.next.is_none());
    assert!(store.list(kind, "", &all, Some("x"), 2).is_err());
}

#[test]
fn status_and_spec_are_written_apart() {
    let mut store = store();
    let kind = index("Pod");
    let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {"phase": "Running"}});
    let born = store.create(kind, "a", pod, "u", WRITER).unwrap();
    assert_eq!(born.value()["status"]["phase"], "Pending");
    let both = |value: &mut Value| {
        value["spec"]["nodeName"] = "n".into();
        value["status"]["phase"] = "Running".into();
        Ok(())
    };
    let status = store
        .change(kind, ("a", "p"), "status", WRITER, both)
        .unwrap();
    assert_eq!(status.value()["status"]["phase"], "Running");
    assert_eq!(status.value()["spec"]["nodeName"], Value::Null);
    assert_eq!(status.value()["metadata"]["generation"], 1);
    let whole = store.change(kind, ("a", "p"), "", WRITER, both).unwrap();
    assert_eq!(whole.value()["spec"]["nodeName"], "n");
    assert_eq!(whole.value()["metadata"]["generation"], 2);
}

#[test]
fn a_binding_changes_the_spec_and_not_the_generation() {
    let mut store = store();
    let kind = index("Pod");
    let pod = json!({"metadata": {"name": "p"}, "spec": {}});
    store.create(kind, "a", pod, "u", WRITER).unwrap();
    let bind = |value: &mut Value| {
        value["spec"]["nodeName"] = "n".into();
        Ok(())
    };
    let bound = store.change(kind, ("a", "p"), "binding", WRITER, bind);
    let bound = bound.unwrap();
    assert_eq!(bound.value()["spec"]["nodeName"], "n");
    assert_eq!(bound.value()["metadata"]["generation"], 1);
}

#[test]
fn preconditions_and_finalizers_hold_a_deletion() {
    let mut store = store();
    let kind = index("ConfigMap");
    let value = json!({"metadata": {"name": "one", "finalizers": ["x"]}});
    store.create(kind, "a", value, "u", WRITER).unwrap();
    let mut delete = |uid: &str| {
        let preconditions = Preconditions {
            uid: Some(uid.into()),
            version: None,
        };
        store.delete(kind, "a", "one", &preconditions, WRITER.now)
    };
    assert_eq!(delete("other").unwrap_err().code, 409);
    assert!(delete("u").unwrap().value()["metadata"]["deletionTimestamp"].is_string());
    set(&mut store, "one", "/metadata/finalizers", json!([])).unwrap();
    assert_eq!(store.get(kind, "a", "one").unwrap_err().code, 404);
}

#[test]
fn a_write_that_names_another_uid_is_a_conflict() {
    let mut store = store();
    map(&mut store, "one", &json!({})).unwrap();
    let refused = set(&mut store, "one", "/metadata/uid", "other".into());
    assert_eq!(refused.unwrap_err().code, 409);
}
