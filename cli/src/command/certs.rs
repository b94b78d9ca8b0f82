//! `sublet certs`: until when a tenant's certificates are good, and new ones.

use super::list;
use crate::{
    age,
    certificate::Certificate,
    cluster::Cluster,
    condition, error,
    output::{self, Data},
    progress::Progress,
    style,
    table::{Mood, Table, terminal_width},
    tenant,
    waiting::Waiting,
};
use anyhow::Result;
use api::{Phase, SYSTEM_NAMESPACE, VirtualControlPlane, keys};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tenancy::{naming, tenant::TenantId};

/// How often Secrets are looked at while new ones are waited for.
const PAUSE: Duration = Duration::from_secs(2);
/// Tenants that are looked at together.
const AT_ONCE: usize = 8;

/// Examples of both.
pub(super) const EXAMPLES: &str = "\
Examples:
  sublet certs check team-a
  sublet certs rotate team-a";

/// What to do with a tenant's certificates.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say until when each certificate and authority of tenants is good; exits with 1 if one has expired, isn't good yet or is late
    #[command(
        after_help = "Examples:\n  sublet certs check team-a\n  sublet certs check -A\n  sublet certs check team-a -o json"
    )]
    Check(Check),
    /// Renew all certificates of a tenant, as happens by itself after two thirds of their life; authorities stay
    #[command(
        after_help = "Examples:\n  sublet certs rotate team-a            the kubeconfig is a new one, too; the old one stays good\n  \
                      sublet certs rotate team-a --no-wait"
    )]
    Rotate(Rotate),
}

/// Flags of `sublet certs check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// Names of the tenants, or their identities; all of the namespace when left out
    #[arg(value_name = "NAME", value_parser = crate::name::known_tenant)]
    pub(super) names: Vec<String>,
    /// Tenants of all namespaces
    #[arg(short = 'A', long, conflicts_with = "names")]
    all_namespaces: bool,
    /// Leave out the headings
    #[arg(long)]
    no_headers: bool,
    /// Print it as data
    #[arg(short, long, value_enum)]
    output: Option<Data>,
}

/// Flags of `sublet certs rotate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Rotate {
    /// Name of the tenant, or its identity
    #[arg(value_parser = crate::name::known_tenant)]
    pub(super) name: String,
    /// Whether it waits.
    #[command(flatten)]
    waiting: Waiting<5>,
}

/// Runs one of them.
pub(crate) async fn run(command: &Command, cluster: &Cluster) -> Result<()> {
    match command {
        Command::Check(args) => check(args, cluster).await,
        Command::Rotate(args) => rotate(args, cluster).await,
    }
}

async fn check(args: &Check, cluster: &Cluster) -> Result<()> {
    let tenants = tenants(args, cluster).await?;
    let now = Timestamp::now();
    let (mut all, mut wrong) = (vec![], vec![]);
    let asked = tenants.iter().map(|vcp| gather(cluster, vcp));
    let found: Vec<_> = stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    for (vcp, certificates) in tenants.iter().zip(found) {
        let (name, namespace) = (vcp.name_any(), vcp.namespace().unwrap_or_default());
        match verdict(&certificates, now, &Renewal::of(cluster, vcp)) {
            Some(told) if told.gravity == Gravity::Expected => tell!("note: {}", told.text),
            told => wrong.extend(told.map(|verdict| verdict.text)),
        }
        all.push(Of {
            tenant: format!("{namespace}/{name}"),
            certificates,
        });
    }
    if let Some(format) = args.output {
        output::print(&format.text(&data(&all, now))?)?;
    } else if tenants.is_empty() {
        let namespace = (!args.all_namespaces).then_some(&*cluster.namespace);
        let create = cluster.hint("create NAME");
        tell!("{}", list::there_are_none(namespace, &create));
    } else if all.iter().all(|of| of.certificates.is_empty()) {
        let names: Vec<&str> = all.iter().map(|of| of.tenant.as_str()).collect();
        tell!("no certificates yet: {}", names.join(", "));
    } else {
        let mut table = table(&all, now);
        if args.no_headers {
            table = table.without_headings();
        }
        output::print(&table.render(style::stdout(), terminal_width()))?;
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(error::fail(wrong.join("; ")))
    }
}

async fn tenants(args: &Check, cluster: &Cluster) -> Result<Vec<VirtualControlPlane>> {
    let mut found = vec![];
    if args.all_namespaces {
        found = tenant::all(cluster).await?;
    } else if args.names.is_empty() {
        found = tenant::of_namespace(cluster).await?;
    }
    for name in &args.names {
        found.push(tenant::find(cluster, name).await?);
    }
    Ok(found)
}

/// The certificates of one tenant.
struct Of {
    /// `NAMESPACE/NAME` of it.
    tenant: String,
    certificates: Vec<Certificate>,
}

async fn rotate(args: &Rotate, cluster: &Cluster) -> Result<()> {
    let vcp = tenant::find(cluster, &args.name).await?;
    tenant::refuse_paused(cluster, &vcp)?;
    let before = renewed(&gather(cluster, &vcp).await?);
    if before.is_empty() {
        let look = cluster.hint(&format!("describe {}", args.name));
        return Err(error::fail(format!(
            "{} has no certificates that Sublet made; see `{look}`",
            args.name
        )));
    }
    let patch = json!({"metadata": {
        "uid": vcp.metadata.uid,
        "annotations": {keys::RENEW_CERTIFICATES: Timestamp::now().to_string()},
    }});
    let params = PatchParams::default();
    tenant::api(cluster)
        .patch(&args.name, &params, &Patch::Merge(patch))
        .await?;
    let look = cluster.hint(&format!("certs check {}", args.name));
    if args.waiting.no_wait {
        return output::print_line(&format!("renewal requested; look with `{look}`"));
    }
    let mut progress = Progress::start(&format!("renewing {} certificates", before.len()));
    let anew = tokio::time::timeout(
        args.waiting.timeout,
        until_new(cluster, &vcp, &before, &mut progress),
    );
    tokio::select! {
        anew = anew => anew.unwrap_or_else(|_| {
            Err(error::fail(format!(
                "not all certificates of {} are new after {}: {}; it goes on by itself; look with `{look}`",
                args.name,
                age::elapsed(args.waiting.timeout),
                progress_of(&vcp)
            )))
        })?,
        _ = tokio::signal::ctrl_c() => {
            return Err(error::interrupted(format!("interrupted: it goes on by itself; look with `{look}`")));
        }
    }
    drop(progress);
    let describe = cluster.hint(&format!("describe {}", args.name));
    output::print_line(&format!(
        "{} certificates of {} are new; what runs takes them up one pod after the other: see `{describe}`",
        before.len(),
        args.name
    ))
}

fn progress_of(vcp: &VirtualControlPlane) -> String {
    condition::blocker(vcp).unwrap_or_else(|| "the manager may not run".to_owned())
}

/// Looks until no certificate is left that was there before.
async fn until_new(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
    before: &BTreeMap<String, Timestamp>,
    progress: &mut Progress,
) -> Result<()> {
    loop {
        let left = left(before, &renewed(&gather(cluster, vcp).await?));
        if left == 0 {
            return Ok(());
        }
        progress.state(&format!(
            "{left} of {} certificates are still to come",
            before.len()
        ));
        tokio::time::sleep(PAUSE).await;
    }
}

/// When those end that Sublet makes anew, by Secret. One that can't be read ended long ago.
fn renewed(all: &[Certificate]) -> BTreeMap<String, Timestamp> {
    let renewed = all.iter().filter(|certificate| certificate.is_renewed);
    let ends = renewed.map(|certificate| {
        let life = certificate.life.as_ref();
        (
            certificate.secret.clone(),
            life.map_or(Timestamp::UNIX_EPOCH, |life| life.expires),
        )
    });
    ends.collect()
}

/// How many are as they were.
fn left(before: &BTreeMap<String, Timestamp>, now: &BTreeMap<String, Timestamp>) -> usize {
    let same = |(secret, end): &(&String, &Timestamp)| now.get(*secret) == Some(*end);
    before.iter().filter(same).count()
}

/// All certificates of a tenant: those of its control plane, those beside it, and the syncer's.
pub(super) async fn gather(
    cluster: &Cluster,
    vcp: &VirtualControlPlane,
) -> Result<Vec<Certificate>, kube::Error> {
    let Some(identity) = &vcp.spec.identity else {
        return Ok(vec![]);
    };
    let status = vcp.status.as_ref();
    let inside = status.and_then(|status| status.control_plane_namespace.clone());
    // Elsewhere a namespace of that name is somebody else's.
    let inside = inside.filter(|_| vcp.spec.super_cluster.is_none());
    let own = vcp.namespace().unwrap_or_default();
    let of_tenant = ListParams::default().labels(&format!("{}={identity}", keys::TENANT));
    let mut secrets = vec![];
    for namespace in inside.into_iter().chain([own]) {
        let api: Api<Secret> = Api::namespaced(cluster.client.clone(), &namespace);
        secrets.extend(api.list(&of_tenant).await?.items);
    }
    if let Ok(identity) = TenantId::parse(identity) {
        let api: Api<Secret> = Api::namespaced(cluster.client.clone(), SYSTEM_NAMESPACE);
        secrets.extend(api.get_opt(&naming::tenant_kubeconfig(&identity)).await?);
    }
    let mut found: Vec<Certificate> = secrets.iter().filter_map(Certificate::of).collect();
    if vcp.spec.super_cluster.is_some() {
        // What lies here are copies, which follow what is renewed there.
        for copy in &mut found {
            let life = copy.life.as_ref();
            copy.is_renewed |= life.is_some_and(|life| !life.is_authority);
        }
    }
    Ok(found)
}

/// Whose each is stands there where there are several tenants.
fn table(all: &[Of], now: Timestamp) -> Table {
    let mut headings = vec!["SECRET", "KIND", "HOLDER", "EXPIRES", "DAYS-LEFT"];
    if all.len() > 1 {
        headings.insert(0, "TENANT");
    }
    let mut table = Table::new(&headings);
    for of in all {
        for certificate in &of.certificates {
            let mut row = row(certificate, now);
            if all.len() > 1 {
                row.insert(0, (of.tenant.clone(), Mood::Plain));
            }
            table.moody(row);
        }
    }
    table
}

fn row(certificate: &Certificate, now: Timestamp) -> Vec<(String, Mood)> {
    let plain = |text: &str| (text.to_owned(), Mood::Plain);
    let Some(life) = &certificate.life else {
        let wrong = ("can't be read".to_owned(), Mood::Bad);
        return vec![
            plain(&certificate.secret),
            plain(""),
            plain(""),
            plain(""),
            wrong,
        ];
    };
    let days = || life.days_left(now).to_string();
    let (left, mood) = match life {
        _ if certificate.is_over(now) => ("expired".to_owned(), Mood::Bad),
        _ if certificate.is_early(now) => ("not good yet".to_owned(), Mood::Bad),
        life if life.is_late(now) => (days(), Mood::Busy),
        _ => (days(), Mood::Good),
    };
    vec![
        plain(&certificate.secret),
        plain(kind(life.is_authority)),
        plain(&life.holder),
        plain(&life.expires.to_string()),
        (left, mood),
    ]
}

fn kind(is_authority: bool) -> &'static str {
    if is_authority { "authority" } else { "leaf" }
}

fn data(all: &[Of], now: Timestamp) -> Value {
    let each = all
        .iter()
        .flat_map(|of| of.certificates.iter().map(|one| (&of.tenant, one)));
    let certificates = each.map(|(tenant, certificate)| {
        let life = certificate.life.as_ref();
        json!({
            "tenant": tenant,
            "secret": certificate.secret,
            "kind": life.map(|life| kind(life.is_authority)),
            "holder": life.map(|life| &life.holder),
            "begins": life.map(|life| life.begins.to_string()),
            "expires": life.map(|life| life.expires.to_string()),
            "daysLeft": life.map(|life| life.days_left(now)),
            "expired": certificate.is_over(now),
        })
    });
    json!({"certificates": certificates.collect::<Vec<_>>()})
}

/// Who makes a tenant's certificates anew.
#[derive(Debug)]
pub(super) enum Renewal {
    /// The manager, and at once when this is typed.
    By(String),
    /// Nobody before its pause ends: why, and how it does.
    Paused(String),
}

impl Renewal {
    pub(super) fn of(cluster: &Cluster, vcp: &VirtualControlPlane) -> Self {
        let (name, namespace) = (vcp.name_any(), vcp.namespace().unwrap_or_default());
        let line = |what: &str| cluster.hint_in(&namespace, &format!("{what} {name}"));
        if vcp.spec.paused {
            let resume = line("resume");
            return Self::Paused(format!("{name} is paused (`{resume}` ends that)"));
        }
        // Its Cluster's pause stands in no spec of its own.
        if condition::phase(vcp) == Some(Phase::Paused) {
            return Self::Paused(format!("the Cluster of {name} is paused"));
        }
        Self::By(line("certs rotate"))
    }
}

/// What is wrong with a tenant's certificates, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) gravity: Gravity,
    pub(super) text: String,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gravity {
    /// One has expired or isn't good yet.
    Over,
    /// One should have been renewed.
    Late,
    /// One would have been renewed, were it not for a pause that somebody wants.
    Expected,
}

/// `None` when all are good.
pub(super) fn verdict(all: &[Certificate], now: Timestamp, renewal: &Renewal) -> Option<Verdict> {
    let unusable = [over(all, now, renewal), early(all, now, renewal)];
    let unusable: Vec<String> = unusable.into_iter().flatten().collect();
    if !unusable.is_empty() {
        return Some(Verdict {
            gravity: Gravity::Over,
            text: unusable.join("; "),
        });
    }
    let is_late = |one: &&Certificate| {
        let life = one.life.as_ref();
        one.is_renewed && life.is_some_and(|life| life.is_late(now))
    };
    let late: Vec<&str> = all
        .iter()
        .filter(is_late)
        .map(|one| one.secret.as_str())
        .collect();
    if late.is_empty() {
        return None;
    }
    let late = late.join(", ");
    Some(match renewal {
        Renewal::By(rotate) => Verdict {
            gravity: Gravity::Late,
            text: format!(
                "not renewed in time: {late}; the manager may not run, or make new ones with `{rotate}`"
            ),
        },
        Renewal::Paused(why) => Verdict {
            gravity: Gravity::Expected,
            text: format!("not renewed: {late}; {why}, and new ones are made when it goes on"),
        },
    })
}

/// What is said of those that haven't begun by the clock of this machine.
fn early(all: &[Certificate], now: Timestamp, renewal: &Renewal) -> Option<String> {
    let is_early = |one: &&Certificate| one.is_early(now);
    let early: Vec<&Certificate> = all.iter().filter(is_early).collect();
    let begins = early.iter().filter_map(|one| one.life.as_ref());
    let last = begins.map(|life| life.begins).max()?;
    let names: Vec<&str> = early.iter().map(|one| one.secret.as_str()).collect();
    let advice = match renewal {
        _ if !early.iter().all(|one| one.is_renewed) => {
            "authorities stay: wait until then, or make the tenant anew".to_owned()
        }
        Renewal::By(rotate) => format!("make new ones with `{rotate}`"),
        Renewal::Paused(why) => format!("{why}, and new ones are made when it goes on"),
    };
    Some(format!(
        "not good before {last}: {}; made by a clock that was ahead, unless that of this machine is behind: {advice}",
        names.join(", ")
    ))
}

fn over(all: &[Certificate], now: Timestamp, renewal: &Renewal) -> Option<String> {
    let over: Vec<&Certificate> = all.iter().filter(|one| one.is_over(now)).collect();
    let names: Vec<&str> = over.iter().map(|one| one.secret.as_str()).collect();
    if over.is_empty() {
        return None;
    }
    let advice = match renewal {
        _ if !over.iter().all(|one| one.is_renewed) => {
            "one that Sublet doesn't renew must be replaced by hand".to_owned()
        }
        Renewal::By(rotate) => format!("make new ones with `{rotate}`"),
        Renewal::Paused(why) => format!("{why}, and new ones are made when it goes on"),
    };
    Some(format!("no longer good: {}; {advice}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{certificate::Life, cluster::fake::answering};
    use expect_test::expect;

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn certificate(name: &str, expires: &str) -> Certificate {
        Certificate {
            secret: format!("n/{name}"),
            life: expires.parse().ok().map(|expires| Life {
                holder: format!("kube-{name}"),
                is_authority: name == "ca",
                begins: now(),
                expires,
            }),
            is_renewed: name != "ca",
        }
    }

    fn of(tenant: &str, certificates: &[Certificate]) -> Of {
        Of {
            tenant: tenant.to_owned(),
            certificates: certificates.to_vec(),
        }
    }

    fn by_the_manager() -> Renewal {
        Renewal::By("sublet certs rotate a".to_owned())
    }

    /// One whose renewal was due.
    fn late() -> Certificate {
        let mut late = certificate("etcd", "2026-01-20T00:00:00Z");
        if let Some(life) = &mut late.life {
            life.begins = "2025-10-22T00:00:00Z".parse().unwrap();
        }
        late
    }

    #[test]
    fn one_that_should_have_been_renewed_is_a_failure_too() {
        let mut late = late();
        let told = verdict(&[late.clone()], now(), &by_the_manager()).unwrap();
        assert_eq!(told.gravity, Gravity::Late);
        assert!(
            told.text.starts_with("not renewed in time: n/etcd;"),
            "{told:?}"
        );
        // What Sublet doesn't renew isn't late.
        late.is_renewed = false;
        assert_eq!(verdict(&[late], now(), &by_the_manager()), None);
    }

    #[tokio::test]
    async fn one_of_a_tenant_that_is_paused_is_late_by_no_fault() {
        let renewal = |spec: Value, phase: &str| {
            let vcp: VirtualControlPlane = serde_json::from_value(json!({
                "metadata": {"name": "a", "namespace": "n"}, "spec": spec, "status": {"phase": phase},
            }))
            .unwrap();
            Renewal::of(&answering(|_| None), &vcp)
        };
        let told = |all: &[Certificate], renewal: &Renewal| verdict(all, now(), renewal).unwrap();
        // Its pause may be asked for and not be seen yet.
        let own = renewal(json!({"paused": true}), "Ready");
        let late = told(&[late()], &own);
        assert_eq!(late.gravity, Gravity::Expected);
        assert_eq!(
            late.text,
            "not renewed: n/etcd; a is paused (`sublet resume a -n n` ends that), and new ones are made when it goes on"
        );
        let over = told(&[certificate("etcd", "2025-12-31T00:00:00Z")], &own);
        assert_eq!(over.gravity, Gravity::Over);
        assert!(over.text.contains("`sublet resume a -n n`"), "{over:?}");
        let of_cluster = told(&[self::late()], &renewal(json!({}), "Paused"));
        assert_eq!(of_cluster.gravity, Gravity::Expected);
        assert!(
            of_cluster.text.contains("the Cluster of a is paused"),
            "{of_cluster:?}"
        );
        let none = told(&[self::late()], &renewal(json!({}), "Ready"));
        assert!(
            none.text.ends_with("`sublet certs rotate a -n n`"),
            "{none:?}"
        );
    }

    #[test]
    fn each_certificate_is_shown_with_what_is_left_of_it() {
        let all = [
            certificate("ca", "2035-12-30T00:00:00Z"),
            certificate("apiserver", "2026-03-01T00:00:00Z"),
            certificate("etcd", "2025-12-31T00:00:00Z"),
            certificate("peer", "?"),
        ];
        let width = None;
        expect![[r#"
            SECRET        KIND        HOLDER           EXPIRES                DAYS-LEFT
            n/ca          authority   kube-ca          2035-12-30T00:00:00Z   3650
            n/apiserver   leaf        kube-apiserver   2026-03-01T00:00:00Z   59
            n/etcd        leaf        kube-etcd        2025-12-31T00:00:00Z   expired
            n/peer                                                            can't be read
        "#]]
        .assert_eq(&table(&[of("n/a", &all)], now()).render(style::plain(), width));
        let two = [of("n/a", &all[..1]), of("m/b", &all[1..2])];
        expect![[r#"
            TENANT   SECRET        KIND        HOLDER           EXPIRES                DAYS-LEFT
            n/a      n/ca          authority   kube-ca          2035-12-30T00:00:00Z   3650
            m/b      n/apiserver   leaf        kube-apiserver   2026-03-01T00:00:00Z   59
        "#]]
        .assert_eq(&table(&two, now()).render(style::plain(), width));
        let all = [of("n/a", &all)];
        let data = data(&all, now());
        assert_eq!(data["certificates"][0]["tenant"], "n/a");
        let of = |at: usize| &data["certificates"][at];
        assert_eq!(
            (&of(1)["daysLeft"], &of(1)["expired"]),
            (&json!(59), &json!(false))
        );
        assert_eq!(
            (&of(3)["expires"], &of(3)["expired"]),
            (&Value::Null, &json!(true))
        );
    }

    #[test]
    fn what_is_no_longer_good_is_a_failure_with_what_to_do() {
        let good = certificate("apiserver", "2026-03-01T00:00:00Z");
        let over = certificate("etcd", "2025-12-31T00:00:00Z");
        let root = certificate("ca", "2025-12-31T00:00:00Z");
        let said =
            |all: &[Certificate]| verdict(all, now(), &by_the_manager()).map(|told| told.text);
        assert_eq!(said(std::slice::from_ref(&good)), None);
        assert_eq!(
            said(&[good, over.clone()]).as_deref(),
            Some("no longer good: n/etcd; make new ones with `sublet certs rotate a`")
        );
        assert!(said(&[over, root]).unwrap().ends_with("replaced by hand"));
    }

    /// Nobody takes a root that hasn't begun, nor what it signed.
    #[test]
    fn what_is_not_good_yet_is_a_failure_with_what_to_do() {
        let begun_later = |name: &str| {
            let mut certificate = certificate(name, "2035-12-30T00:00:00Z");
            if let Some(life) = &mut certificate.life {
                life.begins = "2026-01-02T00:00:00Z".parse().unwrap();
            }
            certificate
        };
        let [root, leaf] = ["ca", "etcd"].map(begun_later);
        let said = |all: &[Certificate]| {
            let told = verdict(all, now(), &by_the_manager()).unwrap();
            assert_eq!(told.gravity, Gravity::Over, "{told:?}");
            told.text
        };
        let text = said(std::slice::from_ref(&leaf));
        let words = "not good before 2026-01-02T00:00:00Z: n/etcd; ";
        assert!(text.starts_with(words), "{text}");
        assert!(
            text.ends_with("make new ones with `sublet certs rotate a`"),
            "{text}"
        );
        let text = said(&[root.clone(), leaf]);
        assert!(text.contains(": n/ca, n/etcd; "), "{text}");
        assert!(text.ends_with("or make the tenant anew"), "{text}");
        let over = certificate("peer", "2025-12-31T00:00:00Z");
        let text = said(&[root.clone(), over]);
        assert!(
            text.contains("no longer good: n/peer") && text.contains("n/ca"),
            "{text}"
        );
        assert_eq!(row(&root, now())[4], ("not good yet".to_owned(), Mood::Bad));
    }

    #[test]
    fn a_certificate_is_waited_for_until_it_ends_at_another_time() {
        let of = |expires: &str| {
            renewed(&[
                certificate("etcd", expires),
                certificate("ca", "2035-12-30T00:00:00Z"),
            ])
        };
        let before = of("2026-03-01T00:00:00Z");
        assert_eq!(before.len(), 1, "authorities stay");
        assert_eq!(left(&before, &before), 1);
        assert_eq!(left(&before, &of("2026-04-01T00:00:00Z")), 0);
    }
}
