//! What a failed test prints: the state of both sides, in few lines.

use crate::{
    kind::{CONTROL_PLANE, EVENT, Kind, POD},
    read::{brief, name, text},
    side::Side,
    space::Space,
    tenant::{NAMESPACE_OF_TESTS, conditions},
};

/// Namespace of Sublet's daemons.
const SYSTEM: &str = api::SYSTEM_NAMESPACE;
/// Lines of a daemon's log.
const TAIL: usize = 30;

/// The state around a test's namespace.
pub async fn space(space: &Space) -> String {
    let (tenant, above) = (&space.tenant.side, &space.tenant.above);
    let mut out = format!(
        "--- namespace {} of tenant {}, twin {}\n",
        space.name, space.tenant.name, space.twin
    );
    for (side, namespace) in [(tenant, &space.name), (above, &space.twin)] {
        objects(&mut out, side, POD, namespace).await;
        events(&mut out, side, namespace).await;
    }
    out + &control_plane(above, &space.tenant.name).await
}

/// The state of a VirtualControlPlane, its own pods, and what the daemons said last.
pub async fn control_plane(above: &Side, tenant: &str) -> String {
    let mut out = format!("--- VirtualControlPlane {tenant}\n");
    match above.get(CONTROL_PLANE, NAMESPACE_OF_TESTS, tenant).await {
        Ok(vcp) => {
            out += &format!("{}\n", conditions(&vcp));
            objects(
                &mut out,
                above,
                POD,
                text(&vcp, "/status/controlPlaneNamespace"),
            )
            .await;
        }
        Err(err) => out += &format!("{err}\n"),
    }
    let daemons = above.list(POD, SYSTEM, "").await.unwrap_or_default();
    for daemon in &daemons {
        out += &format!("--- {}\n", brief(daemon));
        let path = format!("{}/log?tailLines={TAIL}", POD.path(SYSTEM, name(daemon)));
        match above.text(&path).await {
            Ok(log) => out += &log,
            Err(err) => out += &format!("{err}\n"),
        }
    }
    if daemons.is_empty() {
        out += &format!("no pod runs in namespace {SYSTEM}: is Sublet installed?\n");
    }
    out
}

async fn objects(out: &mut String, side: &Side, kind: Kind, namespace: &str) {
    if namespace.is_empty() {
        return;
    }
    *out += &format!("--- {} of {} in {namespace}\n", kind.plural, side.name());
    match side.list(kind, namespace, "").await {
        Ok(list) => list
            .iter()
            .for_each(|object| *out += &format!("{}\n", brief(object))),
        Err(err) => *out += &format!("{err}\n"),
    }
}

async fn events(out: &mut String, side: &Side, namespace: &str) {
    *out += &format!("--- events of {} in {namespace}\n", side.name());
    for event in side.list(EVENT, namespace, "").await.unwrap_or_default() {
        let about = format!(
            "{} {}",
            text(&event, "/involvedObject/kind"),
            text(&event, "/involvedObject/name")
        );
        *out += &format!(
            "{} {about}: {}\n",
            text(&event, "/reason"),
            text(&event, "/message")
        );
    }
}
