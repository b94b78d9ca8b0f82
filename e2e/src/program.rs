//! Running kubectl and `sublet` as a person would.

use crate::settings;
use anyhow::{Context, ensure};
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

/// No command of a test may take longer, unless it was given another limit.
const LIMIT: Duration = Duration::from_secs(150);

/// A program with its kubeconfig.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    kubeconfig: PathBuf,
    variables: Vec<(&'static str, &'static str)>,
    limit: Duration,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was run.
    pub line: String,
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Program {
    /// kubectl with a tenant's kubeconfig, which is written into `folder`.
    pub fn kubectl(folder: &Path, kubeconfig: &str) -> anyhow::Result<Self> {
        let file = folder.join("kubeconfig");
        std::fs::write(&file, kubeconfig).with_context(|| format!("writing {}", file.display()))?;
        Ok(Self {
            path: settings::kubectl()?,
            kubeconfig: file,
            variables: vec![],
            limit: LIMIT,
        })
    }

    /// `sublet` with the kubeconfig of the super cluster's admin.
    pub fn sublet() -> anyhow::Result<Self> {
        Self::sublet_at(&settings::kubeconfig()?)
    }

    /// `sublet` with the kubeconfig in a file.
    pub fn sublet_at(kubeconfig: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            path: settings::sublet()?,
            kubeconfig: kubeconfig.to_owned(),
            variables: vec![],
            limit: LIMIT,
        })
    }

    /// Another program with the same kubeconfig.
    pub fn like(&self, path: PathBuf) -> Self {
        Self {
            path,
            ..self.clone()
        }
    }

    /// The same program with another kubeconfig.
    pub fn with_kubeconfig(&self, file: &Path) -> Self {
        Self {
            kubeconfig: file.to_owned(),
            ..self.clone()
        }
    }

    /// The same program with one more variable in its environment.
    pub fn with_variable(&self, name: &'static str, value: &'static str) -> Self {
        Self {
            variables: vec![(name, value)],
            ..self.clone()
        }
    }

    /// The same program, for what says only after a long time that it failed.
    pub fn with_limit(&self, limit: Duration) -> Self {
        Self {
            limit,
            ..self.clone()
        }
    }

    /// Starts it and lets it run; it ends when it is dropped.
    pub fn start(&self, line: &str) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(line.split_whitespace())
            .env("KUBECONFIG", &self.kubeconfig)
            .envs(self.variables.iter().copied())
            .kill_on_drop(true)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn();
        child.with_context(|| format!("starting {}", self.path.display()))
    }

    /// A line for a shell that runs it.
    pub fn shell_line(&self, line: &str) -> String {
        let (path, kubeconfig) = (self.path.display(), self.kubeconfig.display());
        format!("KUBECONFIG={kubeconfig} {path} {line}")
    }

    /// Runs it; `line` is split at blanks.
    pub async fn run(&self, line: &str) -> anyhow::Result<Outcome> {
        self.feed(line, "").await
    }

    /// Runs it with an input.
    pub async fn feed(&self, line: &str, input: &str) -> anyhow::Result<Outcome> {
        let mut child = self.start(line)?;
        let mut stdin = child.stdin.take().context("the input is a pipe")?;
        let fed = async move {
            // A program that ends without reading its input is judged by how it ends.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
        };
        let both = async { tokio::join!(fed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(self.limit, both)
            .await
            .with_context(|| format!("{line} doesn't end"))??;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let name = self
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(Outcome {
            line: format!("{name} {line}"),
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        })
    }
}

impl Outcome {
    /// It succeeded; what it printed.
    pub fn ok(self) -> anyhow::Result<String> {
        ensure!(self.code == 0, "{self:#?}");
        Ok(self.out)
    }

    /// It succeeded and printed each of these.
    pub fn says(self, words: &[&str]) -> anyhow::Result<String> {
        ensure!(self.code == 0, "{self:#?}");
        for word in words {
            ensure!(self.out.contains(word), "{word:?} is missing: {self:#?}");
        }
        Ok(self.out)
    }

    /// It failed with that code and said each of these on standard error, as one line without a backtrace.
    pub fn fails(self, code: i32, words: &[&str]) -> anyhow::Result<String> {
        ensure!(self.code == code, "exit code {code} is expected: {self:#?}");
        for word in words {
            ensure!(self.err.contains(word), "{word:?} is missing: {self:#?}");
        }
        ensure!(
            !self.err.contains("panicked") && !self.err.contains("Caused by"),
            "{self:#?}"
        );
        Ok(self.err)
    }
}

/// A folder for the files of one test, removed when it is dropped, and when the process of the tests ends.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

/// All folders of this process are in this one.
///
/// A shell removes it once the process is gone, however it ended: the shell's input is closed then.
static ALL: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = std::env::temp_dir().join(format!("sublet-e2e-{:016x}", rand::random::<u64>()));
    std::fs::create_dir(&path).expect("a folder for the tests can be made");
    let script = r#"trap '' INT TERM HUP; cat; until rm -rf -- "$0"; do sleep 0.2; done"#;
    let child = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    // Never closed while this process lives.
    std::mem::forget(child.expect("a shell can be started"));
    path
});

impl Folder {
    /// Makes it.
    pub fn make() -> anyhow::Result<Self> {
        let path = ALL.join(format!("{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self { path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Moves it to where nobody removes it, for a look around.
    pub fn keep(&self) -> anyhow::Result<PathBuf> {
        let name = self.path.file_name().unwrap_or_default().display();
        let kept = std::env::temp_dir().join(format!("sublet-e2e-kept-{name}"));
        std::fs::rename(&self.path, &kept)?;
        Ok(kept)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
