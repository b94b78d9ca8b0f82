//! The super cluster that a command works on: a client, its URL and namespace, and the hints that name it.

#[cfg(test)]
pub(crate) mod fake;

use crate::{
    args::{Global, Program},
    error::{self, Next},
    kubeconfig::file,
    proxy, slow,
};
use anyhow::Result;
use kube::{
    Client, Config,
    client::{AuthError, Body, ClientBuilder, DynBody},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError, LoadDataError},
};
use std::{ffi::OsStr, io, path::Path, sync::Arc, time::Duration};
use tower::{
    BoxError,
    util::{BoxService, MapFutureLayer},
};

/// How long a connection may take, and how long an answer.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);
pub(crate) const ANSWER: Duration = Duration::from_secs(60);

/// A super cluster, ready to be asked.
pub(crate) struct Cluster {
    /// Client of its API server.
    pub(crate) client: Client,
    /// As `client`, for watches: they may be silent for long.
    pub(crate) watching: Client,
    /// The API server's URL.
    pub(crate) url: String,
    /// The namespace that commands work in.
    pub(crate) namespace: String,
    /// How the program was called.
    pub(crate) program: Program,
    /// The flags; hints repeat them.
    pub(crate) global: Global,
}

impl Cluster {
    /// Reads the kubeconfig that the flags point at. Nothing is sent yet.
    pub(crate) async fn connect(global: &Global, program: Program) -> Result<Self> {
        let config = load(global).await?;
        let url = config
            .cluster_url
            .to_string()
            .trim_end_matches('/')
            .to_owned();
        let namespace = global
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        let (client, watching) = (client(config.clone())?, watching(config)?);
        Ok(Self {
            client,
            watching,
            url,
            namespace,
            program,
            global: global.clone(),
        })
    }

    /// A command line to type next, with the flags that lead to the same cluster and to `namespace`.
    pub(crate) fn hint_in(&self, namespace: &str, rest: &str) -> String {
        let flags = self.global.of_cluster();
        let same = namespace == self.namespace && self.global.namespace.is_none();
        let namespace = if same {
            String::new()
        } else {
            format!(" -n {namespace}")
        };
        with_flags(self.program.as_str(), rest, &format!("{namespace}{flags}"))
    }

    /// As [`Self::hint_in`], for the namespace that this command works in.
    pub(crate) fn hint(&self, rest: &str) -> String {
        self.hint_in(&self.namespace, rest)
    }

    /// As [`Self::hint`], for a command that is of no namespace.
    pub(crate) fn hint_anywhere(&self, rest: &str) -> String {
        with_flags(self.program.as_str(), rest, &self.global.of_cluster())
    }

    /// As [`Self::hint_in`], for a command of kubectl.
    pub(crate) fn kubectl(&self, namespace: &str, rest: &str) -> String {
        self.kubectl_anywhere(&format!("-n {namespace} {rest}"))
    }

    /// As [`Self::hint_anywhere`], for a command of kubectl.
    pub(crate) fn kubectl_anywhere(&self, rest: &str) -> String {
        format!("kubectl{} {rest}", self.global.of_cluster())
    }

    /// Turns errors of the Kubernetes client into words; an error that has its words keeps them.
    pub(crate) fn clear(&self, err: anyhow::Error) -> anyhow::Error {
        error::clear(err, &self.url, &|next| match next {
            Next::Install => self.hint_anywhere("install"),
            Next::MakeNamespace(name) => self.kubectl_anywhere(&format!("create namespace {name}")),
        })
    }
}

/// Flags stand before `--`: behind it they would be the other command's.
fn with_flags(program: &str, rest: &str, flags: &str) -> String {
    match rest.split_once(" -- ") {
        Some((ours, theirs)) => format!("{program} {ours}{flags} -- {theirs}"),
        None => format!("{program} {rest}{flags}"),
    }
}

/// A client that gives up on an API server that doesn't answer, and says whom it asks when that takes long.
fn client(mut config: Config) -> Result<Client> {
    config.read_timeout = Some(ANSWER);
    config.reset_reader_on_write = true;
    let url: Arc<str> = config.cluster_url.to_string().trim_end_matches('/').into();
    let builder = builder(config)?;
    let slow = MapFutureLayer::new(move |answer| slow::told(url.clone(), answer));
    Ok(builder.with_layer(&slow).build())
}

/// A client that waits for answers as long as it takes.
fn watching(config: Config) -> Result<Client> {
    Ok(builder(config)?.build())
}

type Service = BoxService<http::Request<Body>, http::Response<Box<DynBody>>, BoxError>;

fn builder(mut config: Config) -> Result<ClientBuilder<Service>> {
    config.connect_timeout = Some(CONNECT);
    let url = config.cluster_url.to_string();
    let plugin = config.auth_info.exec.as_ref();
    let plugin = plugin.and_then(|exec| exec.command.clone());
    ClientBuilder::try_from(config).map_err(|err| {
        error::fail(match (&err, plugin) {
            (kube::Error::Auth(AuthError::AuthExecStart(err)), Some(plugin)) => {
                no_plugin(&plugin, err)
            }
            _ => {
                let why = error::one_line(&err.to_string());
                format!("can't use the kubeconfig's entry for {url}: {why}")
            }
        })
    })
}

/// Says why the program that fetches credentials can't be run.
fn no_plugin(plugin: &str, err: &io::Error) -> String {
    if err.kind() == io::ErrorKind::NotFound {
        format!(
            "the kubeconfig's user runs `{plugin}`, which isn't in PATH: install it, or check --user"
        )
    } else {
        format!("the kubeconfig's user runs `{plugin}`, which can't be started: {err}")
    }
}

async fn load(global: &Global) -> Result<Config> {
    let mut config = config_of(global).await?;
    if let Some(user) = &global.as_user {
        config.auth_info.impersonate = Some(user.clone());
        let groups = Some(global.as_group.clone());
        config.auth_info.impersonate_groups = groups.filter(|groups| !groups.is_empty());
    }
    Ok(config)
}

async fn config_of(global: &Global) -> Result<Config> {
    let Some(kubeconfig) = read_all(global)? else {
        let named = std::env::var_os("KUBECONFIG");
        return in_cluster(global).ok_or_else(|| error::usage(missing(named.as_deref())));
    };
    let current = kubeconfig.current_context.as_deref().unwrap_or_default();
    if current.is_empty()
        && let Some(config) = in_cluster(global)
    {
        return Ok(config);
    }
    let names: Vec<String> = kubeconfig
        .contexts
        .iter()
        .map(|context| context.name.clone())
        .collect();
    if let Some(user) = missing_user(&kubeconfig, global) {
        return Err(error::usage(format!(
            "the kubeconfig has no user {user:?}: check --user and the context"
        )));
    }
    let options = KubeConfigOptions {
        context: global.context.clone(),
        cluster: global.cluster.clone(),
        user: global.user.clone(),
    };
    let config = config(kubeconfig, options).await;
    config
        .map_err(|err| explain(&err, global, &names))
        .and_then(whole)
        .and_then(through_proxy)
}

/// The user that is asked for, or that the context names, if there is none of that name: the client would go on without
/// credentials.
fn missing_user<'a>(kubeconfig: &'a Kubeconfig, global: &'a Global) -> Option<&'a str> {
    let name = global.context.as_ref();
    let name = name.or(kubeconfig.current_context.as_ref());
    let mut contexts = kubeconfig.contexts.iter();
    let named = contexts.find(|context| Some(&context.name) == name);
    let of_context = || named?.context.as_ref()?.user.as_deref();
    let user = global.user.as_deref().or_else(of_context)?;
    let mut users = kubeconfig.auth_infos.iter();
    (!user.is_empty() && !users.any(|known| known.name == user)).then_some(user)
}

/// kubectl takes a server without a scheme for one of HTTP; the client here would panic.
fn whole(config: Config) -> Result<Config> {
    let url = &config.cluster_url;
    if url.scheme().is_none() || url.host().is_none() {
        return Err(error::usage(format!(
            "the kubeconfig's server {:?} is no whole URL: write https://HOST:PORT there",
            url.to_string()
        )));
    }
    Ok(config)
}

/// A context of a kubeconfig; as its proxy only the one that the kubeconfig itself names.
async fn config(
    kubeconfig: Kubeconfig,
    options: KubeConfigOptions,
) -> Result<Config, KubeconfigError> {
    let name = options.context.as_ref();
    let name = name.or(kubeconfig.current_context.as_ref());
    let named = kubeconfig
        .contexts
        .iter()
        .find(|named| Some(&named.name) == name);
    let of_context = named.and_then(|named| named.context.as_ref());
    let of_context = of_context.map(|context| &context.cluster);
    let cluster = options.cluster.as_ref().or(of_context);
    let cluster = kubeconfig
        .clusters
        .iter()
        .find(|named| Some(&named.name) == cluster);
    let own = cluster.and_then(|named| named.cluster.as_ref()?.proxy_url.clone());
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.proxy_url = match own.filter(|own| !own.is_empty()) {
        Some(own) => Some(own.parse().map_err(KubeconfigError::ParseProxyUrl)?),
        None => None,
    };
    Ok(config)
}

/// Adds the environment's proxy where it applies.
fn through_proxy(mut config: Config) -> Result<Config> {
    let own = config.proxy_url.as_ref().map(ToString::to_string);
    let proxy = proxy::Environment::read().proxy(own.as_deref(), &config.cluster_url);
    config.proxy_url = proxy.map_err(error::fail)?;
    Ok(config)
}

/// A client of the API server that a kubeconfig's current context names.
pub(crate) async fn client_of(kubeconfig: Kubeconfig) -> Result<Client> {
    client(current(kubeconfig).await?)
}

/// The same for watches.
pub(crate) async fn watching_of(kubeconfig: Kubeconfig) -> Result<Client> {
    watching(current(kubeconfig).await?)
}

async fn current(kubeconfig: Kubeconfig) -> Result<Config> {
    through_proxy(config(kubeconfig, KubeConfigOptions::default()).await?)
}

/// The credentials of the pod that the program runs in, when it runs in one.
fn in_cluster(global: &Global) -> Option<Config> {
    let Global {
        kubeconfig,
        context,
        cluster,
        user,
        ..
    } = global;
    let names = [context, cluster, user];
    if kubeconfig.is_some() || names.into_iter().any(Option::is_some) {
        None
    } else {
        Config::incluster().ok()
    }
}

/// The kubeconfig files that kubectl would read, merged; files that aren't there are skipped unless the flag names one.
fn read_all(global: &Global) -> Result<Option<Kubeconfig>> {
    let flag = global.kubeconfig.as_deref();
    let files = file::candidates(flag, std::env::var_os("KUBECONFIG"), std::env::home_dir());
    let mut merged: Option<Kubeconfig> = None;
    for file in files.iter().filter(|file| flag.is_some() || file.exists()) {
        let next = read(file)?;
        merged = Some(match merged {
            Some(merged) => merged
                .merge(next)
                .map_err(|err| no_kubeconfig(file, &err))?,
            None => next,
        });
    }
    Ok(merged)
}

fn read(file: &Path) -> Result<Kubeconfig> {
    if !file.exists() {
        return Err(error::usage(format!(
            "there is no file {}: check --kubeconfig",
            file.display()
        )));
    }
    Kubeconfig::read_from(file).map_err(|err| no_kubeconfig(file, &err))
}

/// Says where no kubeconfig was found.
fn missing(named: Option<&OsStr>) -> String {
    match named.filter(|named| !named.is_empty()) {
        Some(named) => format!(
            "KUBECONFIG names {}, and there is no such file",
            named.display()
        ),
        None => "no kubeconfig found: set KUBECONFIG, or pass --kubeconfig FILE".to_owned(),
    }
}

fn no_kubeconfig(file: &Path, err: &KubeconfigError) -> anyhow::Error {
    let why = err.to_string();
    // A picture of the place follows.
    let why = why.split("-->").next().unwrap_or_default();
    let why = error::one_line(why);
    error::fail(format!(
        "{} can't be used as a kubeconfig: {why}",
        file.display()
    ))
}

fn explain(err: &KubeconfigError, global: &Global, names: &[String]) -> anyhow::Error {
    let known = if names.is_empty() {
        "it holds none".to_owned()
    } else {
        format!("it holds {}", names.join(", "))
    };
    match (err, &global.context) {
        (KubeconfigError::CurrentContextNotSet | KubeconfigError::LoadContext(_), None)
            if names.is_empty() =>
        {
            error::usage("the kubeconfig has no contexts: check KUBECONFIG or --kubeconfig")
        }
        (KubeconfigError::LoadContext(_), Some(context)) => error::usage(format!(
            "the kubeconfig has no context {context:?}: {known}"
        )),
        (KubeconfigError::CurrentContextNotSet | KubeconfigError::LoadContext(_), _) => {
            error::usage(format!(
                "the kubeconfig has no current context: pass --context ({known})"
            ))
        }
        (KubeconfigError::LoadClusterOfContext(name), _) => error::usage(format!(
            "the kubeconfig has no cluster {name:?}: check --cluster and the context"
        )),
        _ => match unreadable(err) {
            Some((what, file, why)) => error::fail(format!(
                "the {what} {} that the kubeconfig names can't be read: {why}; check --cluster and --user",
                file.display()
            )),
            None => error::fail(format!(
                "can't use the kubeconfig: {}",
                error::one_line(&err.to_string())
            )),
        },
    }
}

/// The file of a kubeconfig's entry that can't be read, and why.
fn unreadable(err: &KubeconfigError) -> Option<(&'static str, &Path, &io::Error)> {
    let (what, err) = match err {
        KubeconfigError::LoadCertificateAuthority(err) => ("certificate-authority", err),
        KubeconfigError::LoadClientCertificate(err) => ("client-certificate", err),
        KubeconfigError::LoadClientKey(err) => ("client-key", err),
        _ => return None,
    };
    match err {
        LoadDataError::ReadFile(err, file) => Some((what, file, err)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_choose_the_cluster_are_repeated() {
        let global = Global {
            context: Some("prod".into()),
            kubeconfig: Some("k.yaml".into()),
            as_user: Some("jane".into()),
            as_group: vec!["a".into(), "b".into()],
            ..Global::default()
        };
        assert_eq!(
            global.of_cluster(),
            " --kubeconfig k.yaml --context prod --as jane --as-group a --as-group b"
        );
        assert_eq!(Global::default().of_cluster(), "");
        let odd = Global {
            context: Some("a;b $c".into()),
            kubeconfig: Some("my files/k.yaml".into()),
            ..Global::default()
        };
        assert_eq!(
            odd.of_cluster(),
            " --kubeconfig 'my files/k.yaml' --context 'a;b $c'"
        );
        assert_eq!(
            with_flags("sublet", "connect a -- kubectl get pods", " -n x"),
            "sublet connect a -n x -- kubectl get pods"
        );
        assert_eq!(with_flags("sublet", "list", ""), "sublet list");
    }

    #[test]
    fn what_a_kubeconfig_lacks_is_named() {
        assert_eq!(
            missing(Some("/nope".as_ref())),
            "KUBECONFIG names /nope, and there is no such file"
        );
        assert!(missing(Some("".as_ref())).starts_with("no kubeconfig found"));
        assert!(missing(None).starts_with("no kubeconfig found"));
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        assert_eq!(
            no_plugin("aws", &gone()),
            "the kubeconfig's user runs `aws`, which isn't in PATH: install it, or check --user"
        );
        let err = LoadDataError::ReadFile(gone(), "/ca.crt".into());
        let err = KubeconfigError::LoadCertificateAuthority(err);
        assert_eq!(
            explain(&err, &Global::default(), &["c".into()]).to_string(),
            "the certificate-authority /ca.crt that the kubeconfig names can't be read: entity not found; check \
             --cluster and --user"
        );
    }

    #[test]
    fn a_user_that_is_not_there_is_named_and_a_broken_file_in_one_line() {
        let text = r#"{
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "jane"}}, {"name": "d", "context": {"cluster": "c"}}],
            "users": [{"name": "joe", "user": {}}], "current-context": "c"
        }"#;
        let kubeconfig = Kubeconfig::from_yaml(text).unwrap();
        let lacks = |context: Option<&str>, user: Option<&str>| {
            let global = Global {
                context: context.map(str::to_owned),
                user: user.map(str::to_owned),
                ..Global::default()
            };
            missing_user(&kubeconfig, &global).map(str::to_owned)
        };
        assert_eq!(lacks(None, None).as_deref(), Some("jane"));
        assert_eq!(lacks(None, Some("jim")).as_deref(), Some("jim"));
        assert_eq!(lacks(None, Some("joe")), None);
        assert_eq!(lacks(Some("d"), None), None);
        assert_eq!(lacks(Some("nowhere"), None), None);

        let broken = Kubeconfig::from_yaml("garbage: [").unwrap_err();
        let said = no_kubeconfig(Path::new("f"), &broken).to_string();
        assert!(
            said.starts_with("f can't be used as a kubeconfig: "),
            "{said}"
        );
        assert!(!said.contains("-->") && !said.contains('|'), "{said}");
    }

    /// Whoever writes a command line by hand forgets the flags that lead to the cluster.
    #[test]
    fn command_lines_to_type_next_are_made_here_alone() {
        let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
        let (mut files, pages) = (vec![sources.to_owned()], sources.join("pages"));
        let mut count = 0;
        while let Some(path) = files.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(path).unwrap();
                files.extend(entries.map(|entry| entry.unwrap().path()));
                continue;
            }
            let is_test = path.ends_with("src/pages.rs")
                || path.ends_with("tests.rs")
                || path.starts_with(&pages);
            if is_test || path.ends_with("src/cluster.rs") || path.ends_with("src/args.rs") {
                continue;
            }
            count += 1;
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                for by_hand in ["program.as_str()", "`sublet ", "`kubectl "] {
                    let is_known = KNOWN.iter().any(|known| line.contains(known));
                    assert!(is_known || !line.contains(by_hand), "{path:?}: {line}");
                }
            }
        }
        assert!(count > 50, "{count}");
    }

    /// Command lines for another cluster than this one, or for a file.
    const KNOWN: [&str; 3] = [
        "kubectl --context {quoted}",
        "kubectl --kubeconfig {quoted}",
        "kubectl config view",
    ];
}
