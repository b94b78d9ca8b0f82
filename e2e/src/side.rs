//! One API server, a tenant's or the super cluster's, spoken to in JSON.

use crate::kind::Kind;
use futures::{AsyncBufReadExt, Stream, StreamExt};
use http::{Method, Request};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use std::{sync::Once, time::Duration};

/// How often somebody who is told to come again does so, and after what pause: limits are shared by all tests of a tenant.
const COMES_AGAIN: (usize, Duration) = (60, Duration::from_secs(1));

/// A client of one API server.
#[derive(Clone)]
pub struct Side {
    /// For messages.
    name: String,
    client: Client,
}

/// A request that wasn't answered with success.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{request} at {server}: {message} (code {code})")]
pub struct Problem {
    /// Verb and path.
    pub request: String,
    /// Which API server.
    pub server: String,
    /// HTTP status; 0 when there was no answer.
    pub code: u16,
    /// What the API server said, or why there was no answer.
    pub message: String,
}

/// How a patch is to be read.
#[derive(Clone, Copy, Debug)]
pub enum PatchType {
    /// `application/merge-patch+json`.
    Merge,
    /// `application/json-patch+json`.
    Json,
}

type Result<T> = std::result::Result<T, Problem>;

impl Side {
    /// Connects as a kubeconfig says; `name` stands for the API server in messages.
    pub async fn connect(name: &str, kubeconfig: &str) -> anyhow::Result<Self> {
        let config = config(kubeconfig).await?;
        Ok(Self {
            name: name.to_owned(),
            client: client(config)?,
        })
    }

    /// A client with the same credentials for the server of another kubeconfig, whose certificate isn't checked: what
    /// somebody who tries stolen credentials does.
    pub async fn misuse(name: &str, kubeconfig: &str, victim: &str) -> anyhow::Result<Self> {
        let victim = self::config(victim).await?;
        let mut config = config(kubeconfig).await?;
        config.cluster_url = victim.cluster_url;
        // The front door leads by this name.
        config.tls_server_name = victim.tls_server_name;
        config.root_cert = None;
        config.accept_invalid_certs = true;
        Ok(Self {
            name: name.to_owned(),
            client: client(config)?,
        })
    }

    /// A client that asks the same server for another name, and doesn't check what answers.
    pub async fn knock(kubeconfig: &str, server_name: &str) -> anyhow::Result<Self> {
        let mut config = config(kubeconfig).await?;
        config.tls_server_name = Some(server_name.to_owned());
        config.root_cert = None;
        config.accept_invalid_certs = true;
        Ok(Self {
            name: server_name.to_owned(),
            client: client(config)?,
        })
    }

    /// Somebody else by impersonation, with all rights: what still holds is admission.
    pub async fn acting(kubeconfig: &str, user: &str) -> anyhow::Result<Self> {
        let mut config = config(kubeconfig).await?;
        config.auth_info.impersonate = Some(user.to_owned());
        config.auth_info.impersonate_groups = Some(vec!["system:masters".into()]);
        Ok(Self {
            name: user.to_owned(),
            client: client(config)?,
        })
    }

    /// Connects as a kubeconfig says, and says something more in the headers of each request.
    pub async fn saying(
        kubeconfig: &str,
        headers: &[(&'static str, &str)],
    ) -> anyhow::Result<Self> {
        let mut config = config(kubeconfig).await?;
        for (name, value) in headers {
            let name = http::HeaderName::from_static(name);
            config.headers.push((name, value.parse()?));
        }
        Ok(Self {
            name: "headers".to_owned(),
            client: client(config)?,
        })
    }

    /// For messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object, if there is one.
    pub async fn find(&self, kind: Kind, namespace: &str, name: &str) -> Result<Option<Value>> {
        match self
            .request(Method::GET, &kind.path(namespace, name), None)
            .await
        {
            Ok(value) => Ok(Some(value)),
            Err(problem) if problem.code == 404 => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// The object.
    pub async fn get(&self, kind: Kind, namespace: &str, name: &str) -> Result<Value> {
        self.request(Method::GET, &kind.path(namespace, name), None)
            .await
    }

    /// The objects of a namespace, or of all when it is empty, that match a label selector.
    pub async fn list(&self, kind: Kind, namespace: &str, selector: &str) -> Result<Vec<Value>> {
        let path = format!(
            "{}?labelSelector={}",
            kind.path(namespace, ""),
            encode(selector)
        );
        let mut list = self.request(Method::GET, &path, None).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(vec![]),
        }
    }

    /// Creates; `apiVersion` and `kind` are filled in.
    pub async fn create(&self, kind: Kind, object: Value) -> Result<Value> {
        self.create_at(kind, object, "").await
    }

    /// Asks whether it could be created.
    pub async fn try_create(&self, kind: Kind, object: Value) -> Result<Value> {
        self.create_at(kind, object, "?dryRun=All").await
    }

    async fn create_at(&self, kind: Kind, mut object: Value, query: &str) -> Result<Value> {
        object["apiVersion"] = kind.api_version.into();
        object["kind"] = kind.name.into();
        let namespace = object["metadata"]["namespace"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.request(
            Method::POST,
            &(kind.path(&namespace, "") + query),
            Some(object),
        )
        .await
    }

    /// Merges `patch` into an object.
    pub async fn merge(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<Value> {
        self.patch(&kind.path(namespace, name), PatchType::Merge, patch)
            .await
    }

    /// Merges `status` into an object's status.
    pub async fn merge_status(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        status: Value,
    ) -> Result<Value> {
        let body = serde_json::json!({"status": status});
        self.patch(
            &(kind.path(namespace, name) + "/status"),
            PatchType::Merge,
            body,
        )
        .await
    }

    /// Patches what a path leads to.
    pub async fn patch(&self, path: &str, how: PatchType, patch: Value) -> Result<Value> {
        let media = match how {
            PatchType::Merge => "application/merge-patch+json",
            PatchType::Json => "application/json-patch+json",
        };
        self.send(Method::PATCH, path, media, Some(patch)).await
    }

    /// Deletes; it is no problem when there is nothing to delete.
    pub async fn delete(&self, kind: Kind, namespace: &str, name: &str) -> Result<()> {
        match self
            .request(Method::DELETE, &kind.path(namespace, name), None)
            .await
        {
            Err(problem) if problem.code != 404 => Err(problem),
            _ => Ok(()),
        }
    }

    /// Any request with a JSON body and answer.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value> {
        self.send(method, path, "application/json", body).await
    }

    /// A request that is answered with text.
    pub async fn text(&self, path: &str) -> Result<String> {
        let mut times = 0;
        loop {
            let request = build(Method::GET, path, "application/json", None);
            let answer = self.client.request_text(request).await;
            let answer = answer.map_err(|err| self.problem("GET", path, err));
            let Some(pause) = comes_again(&answer, &mut times) else {
                return answer;
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// The events of a watch, from the resource version at which it starts, until it ends.
    ///
    /// Each is the JSON object that a watch sends: `type` and `object`.
    pub async fn watch(&self, path: &str) -> Result<impl Stream<Item = Value> + use<>> {
        let lines = self.lines(path).await?;
        Ok(lines.filter_map(async |line| serde_json::from_str(&line).ok()))
    }

    /// The lines of an answer, as they come.
    pub async fn lines(&self, path: &str) -> Result<impl Stream<Item = String> + use<>> {
        let request = build(Method::GET, path, "application/json", None);
        let lines = self
            .client
            .request_stream(request)
            .await
            .map_err(|err| self.problem("GET", path, err))?;
        Ok(lines.lines().filter_map(async |line| line.ok()))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: Option<Value>,
    ) -> Result<Value> {
        let mut times = 0;
        loop {
            let request = build(method.clone(), path, media, body.as_ref());
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|err| self.problem(method.as_str(), path, err));
            let Some(pause) = comes_again(&answer, &mut times) else {
                return answer;
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn problem(&self, verb: &str, path: &str, err: kube::Error) -> Problem {
        let (code, message) = match err {
            kube::Error::Api(status) => (status.code, status.message.clone()),
            other => (0, chain(&other)),
        };
        Problem {
            request: format!("{verb} {path}"),
            server: self.name.clone(),
            code,
            message,
        }
    }
}

async fn config(kubeconfig: &str) -> anyhow::Result<Config> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let mut config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // A test that waits sees what a user would see, at once.
    config.default_retry = false;
    Ok(config)
}

fn client(config: Config) -> anyhow::Result<Client> {
    provider();
    Ok(Client::try_from(config)?)
}

/// Chooses the one TLS provider; whoever makes a TLS configuration calls it first.
pub(crate) fn provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| drop(rustls::crypto::aws_lc_rs::default_provider().install_default()));
}

/// The pause after which a request is sent again: there were too many, so that nothing was done.
fn comes_again<T>(answer: &Result<T>, times: &mut usize) -> Option<Duration> {
    let (most, pause) = COMES_AGAIN;
    *times += 1;
    let is_told_so = answer.as_ref().is_err_and(|problem| problem.code == 429);
    (is_told_so && *times <= most).then_some(pause)
}

fn build(method: Method, path: &str, media: &str, body: Option<&Value>) -> Request<Vec<u8>> {
    let bytes = body
        .map(|body| body.to_string().into_bytes())
        .unwrap_or_default();
    Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", media)
        .body(bytes)
        .expect("a path made of names is a URI")
}

/// What `,`, `=` and `!` in a selector look like in a URL.
pub(crate) fn encode(selector: &str) -> String {
    selector
        .replace('%', "%25")
        .replace(',', "%2C")
        .replace('=', "%3D")
        .replace('!', "%21")
}

/// An error with its causes: the outermost one of a client says little.
fn chain(err: &dyn std::error::Error) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text += &format!(": {err}");
        cause = err.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asked_too_much_asks_again_and_not_for_ever() {
        let answer = |code| -> Result<()> {
            let [request, server, message] = [(); 3].map(|()| String::new());
            Err(Problem {
                request,
                server,
                code,
                message,
            })
        };
        assert_eq!(comes_again(&Ok(()), &mut 0), None);
        assert_eq!(comes_again(&answer(503), &mut 0), None);
        let mut times = 0;
        let again =
            (0..10 * COMES_AGAIN.0).take_while(|_| comes_again(&answer(429), &mut times).is_some());
        assert_eq!(again.count(), COMES_AGAIN.0);
    }
}
