//! A very small client of the super cluster's API server: JSON in, JSON out, one connection per call.
//!
//! xtask must build in seconds on a fresh machine, so it has no Kubernetes client, and starting kubectl
//! for each question while waiting would cost more than the answers. Not for anything that must be fast.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use data_encoding::BASE64;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

/// A connection recipe to one API server.
#[derive(Clone)]
pub(crate) struct KubeApi {
    address: String,
    host: String,
    tls: Arc<ClientConfig>,
}

impl KubeApi {
    /// The API server of a kubeconfig that xtask wrote (JSON, embedded certificates).
    pub(crate) fn from_kubeconfig(path: &Path) -> Result<Self> {
        let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let config: Value = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not a kubeconfig of ours", path.display()))?;
        let field = |pointer: &str| {
            let value = config.pointer(pointer).and_then(Value::as_str);
            value.with_context(|| format!("{} lacks {pointer}", path.display()))
        };
        let pem =
            |pointer: &str| -> Result<Vec<u8>> { Ok(BASE64.decode(field(pointer)?.as_bytes())?) };
        let server = field("/clusters/0/cluster/server")?;
        let address = server
            .strip_prefix("https://")
            .context("the server isn't https")?
            .to_owned();
        let host = address
            .rsplit_once(':')
            .context("the server has no port")?
            .0
            .to_owned();

        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem(
            "/clusters/0/cluster/certificate-authority-data",
        )?)?)?;
        let certificate =
            CertificateDer::from_pem_slice(&pem("/users/0/user/client-certificate-data")?)?;
        let key = PrivateKeyDer::from_pem_slice(&pem("/users/0/user/client-key-data")?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        Ok(Self {
            address,
            host,
            tls: Arc::new(tls),
        })
    }

    /// Reads one path.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        let body = self.call("GET", path, "application/json", None)?;
        Ok(serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    /// Creates or updates an object by server-side apply. `path` ends with its name.
    pub(crate) fn apply(&self, path: &str, object: &Value) -> Result<()> {
        let path = format!("{path}?fieldManager=xtask&force=true");
        self.call("PATCH", &path, "application/apply-patch+yaml", Some(object))
            .map(drop)
    }

    fn call(&self, method: &str, path: &str, kind: &str, body: Option<&Value>) -> Result<String> {
        let mut connection = self.connect()?;
        let body = body.map(Value::to_string).unwrap_or_default();
        // HTTP/1.0, so that the answer isn't chunked and ends with the connection.
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n\
             Content-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            self.host,
            body.len(),
        );
        connection.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        if let Err(error) = connection.read_to_end(&mut answer)
            && (answer.is_empty() || error.kind() != std::io::ErrorKind::UnexpectedEof)
        {
            return Err(error).context("the API server did not answer");
        }
        let (status, body) = parse_answer(&String::from_utf8_lossy(&answer))?;
        if !(200..300).contains(&status) {
            let message = serde_json::from_str::<Value>(&body)
                .ok()
                .and_then(|value| value["message"].as_str().map(str::to_owned))
                .unwrap_or(body);
            bail!("{method} {path}: {status} {message}");
        }
        Ok(body)
    }

    /// Reads one path for as long as the server writes: the lines of a watch.
    pub(crate) fn lines(&self, path: &str) -> Result<impl BufRead + use<>> {
        let mut connection = self.connect()?;
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: {}\r\nAccept: application/json\r\n\r\n",
            self.host
        );
        connection.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(connection);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                bail!("the API server's answer was cut off");
            }
        }
        let (status, _) = parse_answer(&head)?;
        if status != 200 {
            bail!("GET {path}: {status}");
        }
        Ok(reader)
    }

    fn connect(&self) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let address = self
            .address
            .to_socket_addrs()?
            .next()
            .context("the server has no address")?;
        let socket = TcpStream::connect_timeout(&address, Duration::from_secs(2))
            .context("the API server takes no connection")?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.set_write_timeout(Some(Duration::from_secs(10)))?;
        let name = ServerName::try_from(self.host.clone())?;
        Ok(StreamOwned::new(
            ClientConnection::new(Arc::clone(&self.tls), name)?,
            socket,
        ))
    }
}

/// Status and body of an HTTP/1 answer.
fn parse_answer(answer: &str) -> Result<(u16, String)> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the API server's answer was cut off")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((
        status.context("the API server's answer has no status")?,
        body.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_apart() {
        let (status, body) = parse_answer("HTTP/1.0 404 Not Found\r\nA: b\r\n\r\n{}").unwrap();
        assert_eq!((status, body.as_str()), (404, "{}"));
        assert!(parse_answer("HTTP/1.0 200 OK\r\n").is_err());
    }
}
