//! Namespaces that a node lives in: network, mounts, processes.

use std::io;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// A network, mount and process namespace. When it is dropped, or when its owner dies in whatever way, the kernel
/// ends every process in it and with them goes all that was mounted, bridged or filtered there.
#[derive(Debug)]
pub struct Namespace {
    /// The first process of the namespaces. It ends when its standard input does.
    init: Child,
}

impl Namespace {
    /// Makes one, with only the loopback interface up.
    pub fn new() -> Result<Self> {
        let init = Command::new("/usr/bin/unshare")
            .args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"])
            .arg("--mount-proc")
            // As first process it inherits orphans; a shell reaps them. It lives as long as our end of its input.
            .args(["/bin/bash", "-c", "echo; while read -r; do :; done"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start unshare; install the package util-linux")?;
        let mut namespace = Self { init };
        let mut word = [0];
        let output = namespace.init.stdout.as_mut().context("unshare has no output")?;
        io::Read::read_exact(output, &mut word).context("the namespaces were not made; are you root?")?;
        namespace.succeed("/usr/sbin/ip", &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// A command that will run in all three namespaces. Ending it early does not end the program in it.
    pub fn inside(&self, program: &str) -> Result<Command> {
        let mut command = self.enter(&["--net", "--mount", "--pid"])?;
        command.arg(program);
        Ok(command)
    }

    /// A command that will share network and mounts only, so that the process is the caller's to watch and to end.
    pub fn beside(&self, program: &str) -> Result<Command> {
        let mut command = self.enter(&["--net", "--mount"])?;
        command.arg(program);
        Ok(command)
    }

    /// Runs a program inside and returns what it prints; a failure is an error with what it said.
    pub fn succeed(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.inside(program)?.args(arguments).stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn enter(&self, namespaces: &[&str]) -> Result<Command> {
        let mut command = Command::new("/usr/bin/nsenter");
        command.arg("--target").arg(self.first_process()?.to_string()).args(namespaces).arg("--");
        Ok(command)
    }

    /// The process number, outside, of the first process inside: the only child of unshare.
    fn first_process(&self) -> Result<u32> {
        let unshare = self.init.id();
        let path = format!("/proc/{unshare}/task/{unshare}/children");
        let children = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        children.trim().parse().with_context(|| format!("{path} says '{children}'"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.init.stdin.take());
        let _ = self.init.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_sees_only_its_own_interfaces_and_processes_and_takes_them_along() {
        let namespace = Namespace::new().unwrap();
        let links = namespace.succeed("/usr/sbin/ip", &["-o", "link"]).unwrap();
        assert!(links.lines().all(|line| !line.contains(" eth")), "{links}");
        assert!(links.contains("lo: <LOOPBACK,UP"), "{links}");
        let mut sleeper = namespace.inside("/bin/sh").unwrap();
        let mut sleeper =
            sleeper.args(["-c", "echo; exec sleep 1000"]).stdout(Stdio::piped()).spawn().unwrap();
        io::Read::read_exact(sleeper.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        drop(namespace);
        // Its end is the kernel's doing: nobody else ends a sleep of 1000 seconds.
        assert!(!sleeper.wait().unwrap().success());
    }
}
