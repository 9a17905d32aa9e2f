//! The screen of the session, shown to an administrator (`spec/vma.md` 3).
//!
//! A VNC server runs as the user for one viewer and ends with its connection. It listens nowhere: its standard input and
//! output are one end of a socket pair, the other one is copied from and to the viewer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use qvd_runtime::Drain;
use qvd_wire::http::{self, Status, VMA_INFO};
use qvd_wire::rpc::View;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::process::Child;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::gate;
use crate::launch::{self, LaunchError, Session};
use crate::question;
use crate::settings::Settings;

/// What a viewer may send before it is answered.
const MAX_EARLY: usize = 256;

/// What x11vnc always gets: one viewer on standard input, nothing of the user's own files, no commands from outside, no
/// screen that has changed its size.
const ARGUMENTS: [&str; 10] = [
    "-inetd",
    "-norc",
    "-nopw",
    "-once",
    "-safer",
    "-nocmds",
    "-nolookup",
    "-noipv6",
    "-xrandr",
    "newfbsize",
];

/// What it gets beside that for who may only watch: no keys, no pointer, and no clipboard either way.
const WATCHING: [&str; 2] = ["-viewonly", "-nosel"];

/// One viewer who wants to see the session.
pub(crate) struct Screen<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) drain: &'a Drain,
    pub(crate) session: Session,
    pub(crate) view: View,
    /// Somebody sits before it.
    pub(crate) attended: bool,
    pub(crate) peer: SocketAddr,
}

/// Why a screen is not shown.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Denied {
    #[error("the user does not allow it")]
    Refused,
    #[error("the user did not answer within {} s", .0.as_secs())]
    Unanswered(Duration),
    #[error("nobody is connected who could be asked")]
    Nobody,
    #[error("the image of this desktop has no {} ({key}): install the package x11vnc in it", program.display())]
    Missing { key: &'static str, program: PathBuf },
    #[error("the user cannot be asked: {0}")]
    Unasked(String),
    #[error("{0}")]
    Launch(#[from] LaunchError),
    #[error("the agent is stopping")]
    Leaving,
    #[error("the viewer is gone: {0}")]
    Lost(#[from] std::io::Error),
}

impl Denied {
    pub(crate) const fn status(&self) -> Status {
        match self {
            Self::Refused | Self::Unanswered(_) | Self::Nobody => Status::Forbidden,
            _ => Status::Unavailable,
        }
    }
}

impl Screen<'_> {
    /// Shows it until the viewer leaves, the user ends it or the session ends. What is denied is still to be answered.
    pub(crate) async fn show(&self, stream: &mut TcpStream) -> Result<(), Denied> {
        gate::notice_loss(stream)?;
        stream.write_all(&http::interim(VMA_INFO, "Starting VNC service")).await?;
        let mut early = Vec::new();
        self.consent(stream, &mut early).await?;
        let (mut server, mut desktop) = self.serve()?;
        let mut notice = self.notice();
        let (who, begun) = (self.who(), Instant::now());
        info!("{who} ({}) sees the screen{}", self.peer, if self.view.only { "" } else { " and may use it" });
        stream.write_all(&http::switching(&[])).await?;
        desktop.write_all(&early).await?;
        let why = tokio::select! {
            copied = tokio::io::copy_bidirectional(stream, &mut desktop) => match copied {
                Ok(_) => "a side ended it".to_owned(),
                Err(error) => error.to_string(),
            },
            status = server.wait() => format!("the VNC server ended: {}", ending(status)),
            () = ended_by_user(&mut notice) => "the user ended it".to_owned(),
            () = self.drain.stopping() => "the agent is stopping".to_owned(),
        };
        info!("{who} no longer sees the screen, after {} s: {why}", begun.elapsed().as_secs());
        // It may have ended by itself.
        let _ = server.kill().await;
        Ok(())
    }

    /// Starts the VNC server; the other end of its standard input and output.
    fn serve(&self) -> Result<(Child, UnixStream), Denied> {
        let programs = &self.settings.programs;
        let program = &programs.x11vnc;
        if !program.is_file() {
            return Err(Denied::Missing { key: "command.x11vnc", program: program.clone() });
        }
        let failed = |source| LaunchError::Run { program: program.clone(), source };
        let (ours, its) = std::os::unix::net::UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let ours = UnixStream::from_std(ours).map_err(failed)?;
        let mut command = self.session.companion(self.settings, program)?;
        command.args(ARGUMENTS).arg("-display").arg(format!(":{}", self.settings.display));
        if self.view.only {
            command.args(WATCHING);
        }
        command.args(&programs.x11vnc_args);
        let input = its.try_clone().map_err(failed)?;
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(input)));
        command.stdout(Stdio::from(std::os::fd::OwnedFd::from(its)));
        Ok((launch::spawn(command, program)?, ours))
    }

    /// Asks the user, if that is wanted. A viewer who leaves meanwhile is not waited for.
    async fn consent(&self, stream: &mut TcpStream, early: &mut Vec<u8>) -> Result<(), Denied> {
        let consent = &self.settings.consent;
        if !consent.asked {
            return Ok(());
        }
        if !self.attended {
            return Err(Denied::Nobody);
        }
        let mut asking = self.ask().map_err(|error| Denied::Unasked(error.to_string()))?;
        stream.write_all(&http::interim(VMA_INFO, "The user is asked")).await?;
        let limit = tokio::time::sleep(consent.limit);
        tokio::pin!(limit);
        loop {
            tokio::select! {
                status = asking.wait() => return match status {
                    Ok(status) if status.success() => Ok(()),
                    Ok(status) if status.code() == Some(question::NO.into()) => Err(Denied::Refused),
                    status => Err(Denied::Unasked(ending(status))),
                },
                () = &mut limit => return Err(Denied::Unanswered(consent.limit)),
                () = self.drain.stopping() => return Err(Denied::Leaving),
                read = stream.read_buf(early) => {
                    if read? == 0 || early.len() > MAX_EARLY {
                        return Err(Denied::Lost(std::io::ErrorKind::ConnectionAborted.into()));
                    }
                }
            }
        }
    }

    fn ask(&self) -> Result<Child, LaunchError> {
        let own = &self.settings.consent.program;
        let wish = if self.view.only {
            "see your screen"
        } else {
            "see your screen and use your keyboard and mouse"
        };
        let text = format!("{} wants to {wish}. Do you allow it?", self.who());
        if own.as_os_str().is_empty() {
            return self.dialog(question::ASK, &text);
        }
        let mut command = self.session.companion(self.settings, own)?;
        command.env("QVD_VIEWER", self.who()).env("QVD_VIEW_ONLY", u8::from(self.view.only).to_string());
        launch::spawn(command, own)
    }

    /// Shows that somebody watches. The view goes on without where that cannot be shown.
    fn notice(&self) -> Option<Child> {
        if !self.settings.consent.asked {
            return None;
        }
        let text = format!("{} sees your screen", self.who());
        let notice = self.dialog(question::TELL, &text);
        notice.map_err(|error| warn!("the user is not told who watches: {error}")).ok()
    }

    /// The agent's own window for the user.
    fn dialog(&self, kind: &str, text: &str) -> Result<Child, LaunchError> {
        let own = std::env::current_exe()
            .map_err(|source| LaunchError::Run { program: PathBuf::from("/proc/self/exe"), source })?;
        let mut command = self.session.companion(self.settings, Path::new(&own))?;
        command.arg(kind).arg(text);
        launch::spawn(command, &own)
    }

    fn who(&self) -> &str {
        self.view.viewer.as_deref().unwrap_or("An administrator")
    }
}

/// Waits until the user has ended the view, which the notice says by its exit code.
async fn ended_by_user(notice: &mut Option<Child>) {
    if let Some(notice) = notice
        && notice.wait().await.is_ok_and(|status| status.success())
    {
        return;
    }
    std::future::pending().await
}

fn ending(status: std::io::Result<std::process::ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
