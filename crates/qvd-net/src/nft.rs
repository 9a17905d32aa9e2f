//! Handing rules to `nft`: JSON in, one transaction.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::Error;

/// How long `nft` may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The program.
#[derive(Debug, Clone)]
pub(crate) struct Nft(pub(crate) PathBuf);

impl Nft {
    /// Applies all commands or none.
    pub(crate) async fn apply(&self, commands: Vec<Value>) -> Result<(), Error> {
        let text = json!({ "nftables": commands }).to_string();
        self.run(&["-j", "-f", "-"], Some(text)).await.map(drop)
    }

    /// The elements of a set; none when the set does not exist.
    pub(crate) async fn elements(&self, family: &str, table: &str, set: &str) -> Result<Vec<Value>, Error> {
        let listed = match self.run(&["-j", "list", "set", family, table, set], None).await {
            Err(Error::Rules(text)) if text.contains("No such file or directory") => return Ok(Vec::new()),
            other => other?,
        };
        let listed: Value =
            serde_json::from_str(&listed).map_err(|error| Error::Rules(format!("its answer: {error}")))?;
        let objects = listed.get("nftables").and_then(Value::as_array).into_iter().flatten();
        let set = objects.filter_map(|object| object.get("set")?.get("elem")?.as_array()).next();
        Ok(set.cloned().unwrap_or_default())
    }

    async fn run(&self, arguments: &[&str], input: Option<String>) -> Result<String, Error> {
        let program: &Path = &self.0;
        let failed = |source| Error::Program { program: program.to_owned(), source };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let stdin = child.stdin.take();
        let work = async move {
            if let (Some(mut stdin), Some(input)) = (stdin, input) {
                // A program that refuses early closes its end; its message says more than the broken pipe.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let finished = timeout(LIMIT, work).await;
        let output = finished.map_err(|_| Error::Timeout { program: program.to_owned(), limit: LIMIT })?;
        let output = output.map_err(failed)?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            // nft repeats the whole input behind its message.
            let text = String::from_utf8_lossy(&output.stderr);
            let text = text.lines().filter(|line| line.contains("Error")).collect::<Vec<_>>().join("; ");
            Err(Error::Rules(if text.is_empty() { output.status.to_string() } else { text }))
        }
    }
}
