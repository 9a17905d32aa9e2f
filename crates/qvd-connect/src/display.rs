//! The user's X server: nxproxy connects to it in the name of the desktop, which has no cookie of it, so the
//! local user is admitted for the time of the session (`spec/client.md` 7.1).

use x11rb::connection::Connection;
use x11rb::protocol::xproto::{ConnectionExt, Family, HostMode};
use x11rb::rust_connection::RustConnection;

use crate::error::ConnectError;

/// An X server on which programs of this user may draw; what it had to grant is taken back when this is
/// dropped.
pub struct Screen {
    pub(crate) display: String,
    connection: RustConnection,
    granted: Option<Vec<u8>>,
}

impl Screen {
    /// Asks the X server at `display`. Programs of other users are never admitted.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Display`] if nothing can be drawn there.
    pub fn open(display: &str) -> Result<Self, ConnectError> {
        let failed = |detail: String| ConnectError::Display { display: display.to_owned(), detail };
        let (connection, _) = x11rb::connect(Some(display)).map_err(|error| failed(error.to_string()))?;
        let address = format!("localuser\0#{}", nix::unistd::getuid()).into_bytes();
        let hosts = connection
            .list_hosts()
            .map_err(|error| failed(error.to_string()))?
            .reply()
            .map_err(|error| failed(error.to_string()))?;
        let known =
            hosts.hosts.iter().any(|h| h.family == Family::SERVER_INTERPRETED && h.address == address);
        let mut screen = Self { display: display.to_owned(), connection, granted: None };
        if !known {
            screen.change(HostMode::INSERT, &address).map_err(failed)?;
            screen.granted = Some(address);
        }
        Ok(screen)
    }

    fn change(&self, mode: HostMode, address: &[u8]) -> Result<(), String> {
        self.connection
            .change_hosts(mode, Family::SERVER_INTERPRETED, address)
            .map_err(|error| error.to_string())?
            .check()
            .map_err(|error| format!("the X server admits nobody else: {error}"))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(address) = self.granted.take()
            && let Err(error) = self.change(HostMode::DELETE, &address)
        {
            tracing::warn!("the permission to draw stays: {error}");
        }
        let _ = self.connection.flush();
    }
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Screen").field("display", &self.display).finish_non_exhaustive()
    }
}
