//! An X server without a screen, and what it shows.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use x11rb::connection::Connection;
use x11rb::protocol::damage::{ConnectionExt as _, ReportLevel};
use x11rb::protocol::xproto::{
    AtomEnum, BUTTON_PRESS_EVENT, BUTTON_RELEASE_EVENT, ConnectionExt as _, ImageFormat, KEY_PRESS_EVENT,
    KEY_RELEASE_EVENT, MOTION_NOTIFY_EVENT, Window,
};
use x11rb::protocol::xtest::ConnectionExt as _;
use x11rb::rust_connection::{DefaultStream, RustConnection};

use crate::namespace::Namespace;
use crate::picture::Picture;

/// The X server.
const SERVER: &str = "/usr/bin/Xvfb";
/// Where X servers have their sockets.
const SOCKETS: &str = "/tmp/.X11-unix";

/// An Xvfb on a display number that it chose itself.
pub struct Display {
    server: Child,
    name: String,
    connection: RustConnection,
    root: Window,
    size: (u16, u16),
}

impl Display {
    /// Starts a server with a screen of this size, in true color, where we are ourselves.
    pub fn new(width: u16, height: u16) -> Result<Self> {
        Self::start(Command::new(SERVER), width, height)
    }

    /// Starts one for the programs of a namespace.
    pub fn within(namespace: &Namespace, width: u16, height: u16) -> Result<Self> {
        Self::start(namespace.command(SERVER), width, height)
    }

    fn start(mut command: Command, width: u16, height: u16) -> Result<Self> {
        let mut server = command
            .args(["-displayfd", "1", "-nolisten", "tcp", "-ac", "-screen", "0"])
            .arg(format!("{width}x{height}x24"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start Xvfb; install the package xvfb")?;
        match connect(&mut server) {
            Ok((number, connection, root)) => {
                Ok(Self { server, name: format!(":{number}"), connection, root, size: (width, height) })
            }
            Err(error) => {
                server.kill()?;
                server.wait()?;
                Err(error)
            }
        }
    }

    /// The value for `DISPLAY`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it shows now.
    pub fn picture(&self) -> Result<Picture> {
        let (width, height) = self.size;
        let image = self.connection.get_image(ImageFormat::Z_PIXMAP, self.root, 0, 0, width, height, !0)?;
        let image = image.reply()?;
        ensure!(image.depth == 24, "Xvfb shows {} bits per pixel", image.depth);
        let pixels = image.data.chunks_exact(4).map(|pixel| [pixel[2], pixel[1], pixel[0]]).collect();
        Picture::new(width.into(), height.into(), pixels)
    }

    /// Waits until `condition` holds for what it shows, and looks again whenever something is drawn.
    pub fn wait_for(
        &self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Picture) -> bool,
    ) -> Result<Picture> {
        let end = Instant::now() + limit;
        loop {
            while self.connection.poll_for_event()?.is_some() {}
            let picture = self.picture()?;
            if condition(&picture) {
                return Ok(picture);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if let Some(path) = std::env::var_os("QVD_TEST_PICTURE") {
                    picture.save(path.as_ref())?;
                }
                bail!(
                    "{} did not show {what} within {limit:?}: {} colors, {:.1} % drawn, windows {:?}",
                    self.name,
                    picture.colors(),
                    picture.drawn() * 100.0,
                    self.titles()?
                );
            }
            self.wait_for_event(left)?;
        }
    }

    /// What it shows once nothing has been drawn for a while.
    pub fn settled(&self, limit: Duration) -> Result<Picture> {
        const QUIET: Duration = Duration::from_millis(500);
        let end = Instant::now() + limit;
        while Instant::now() < end {
            while self.connection.poll_for_event()?.is_some() {}
            let quiet = Instant::now() + QUIET;
            self.wait_for_event(QUIET)?;
            if Instant::now() >= quiet {
                return self.picture();
            }
        }
        bail!("{} was drawn on for more than {limit:?}", self.name)
    }

    /// Clicks there with the first button of the mouse.
    pub fn click(&self, (x, y): (i16, i16)) -> Result<()> {
        for (kind, detail) in [(MOTION_NOTIFY_EVENT, 0), (BUTTON_PRESS_EVENT, 1), (BUTTON_RELEASE_EVENT, 1)] {
            self.connection.xtest_fake_input(kind, detail, 0, self.root, x, y, 0)?.check()?;
        }
        Ok(())
    }

    /// Strikes the key of this symbol, for whoever has the keyboard.
    pub fn strike(&self, symbol: u32) -> Result<()> {
        let setup = self.connection.setup();
        let (least, most) = (setup.min_keycode, setup.max_keycode);
        let keys = self.connection.get_keyboard_mapping(least, most - least + 1)?.reply()?;
        let each = usize::from(keys.keysyms_per_keycode.max(1));
        let key = keys.keysyms.chunks(each).position(|symbols| symbols.first() == Some(&symbol));
        let key = least + u8::try_from(key.with_context(|| format!("no key has the symbol {symbol:#x}"))?)?;
        for kind in [KEY_PRESS_EVENT, KEY_RELEASE_EVENT] {
            self.connection.xtest_fake_input(kind, key, 0, self.root, 0, 0, 0)?.check()?;
        }
        Ok(())
    }

    fn wait_for_event(&self, limit: Duration) -> Result<()> {
        // An event that came with the last reply is in the connection's queue already.
        if self.connection.poll_for_event()?.is_some() {
            return Ok(());
        }
        let mut descriptors = [PollFd::new(self.connection.stream().as_fd(), PollFlags::POLLIN)];
        poll(&mut descriptors, PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX))?;
        Ok(())
    }

    /// Titles of the windows at the top, those of the session among them if it is not drawn as one window.
    pub fn titles(&self) -> Result<Vec<String>> {
        let mut titles = Vec::new();
        let mut waiting = vec![self.root];
        while let Some(window) = waiting.pop() {
            // A window may vanish between the two questions.
            if let Ok(tree) = self.connection.query_tree(window)?.reply() {
                waiting.extend(tree.children);
            }
            let name =
                self.connection.get_property(false, window, AtomEnum::WM_NAME, AtomEnum::ANY, 0, 256)?;
            if let Ok(name) = name.reply()
                && !name.value.is_empty()
            {
                titles.push(String::from_utf8_lossy(&name.value).into_owned());
            }
        }
        Ok(titles)
    }
}

/// Connects to a server that has just been started, and follows what is drawn.
fn connect(server: &mut Child) -> Result<(u16, RustConnection, Window)> {
    let mut number = String::new();
    let output = server.stdout.take().context("Xvfb has no output")?;
    BufReader::new(output).read_line(&mut number)?;
    let number: u16 = number.trim().parse().context("Xvfb did not start")?;
    // We are not in its namespace, but the kernel shows us its files.
    let socket = format!("/proc/{}/root{SOCKETS}/X{number}", server.id());
    let stream = UnixStream::connect(&socket).with_context(|| format!("cannot connect to {socket}"))?;
    let (stream, _) = DefaultStream::from_unix_stream(stream)?;
    let connection = RustConnection::connect_to_stream(stream, 0)?;
    let root = connection.setup().roots.first().context("Xvfb has no screen")?.root;
    connection.damage_query_version(1, 1)?.reply()?;
    let damage = connection.generate_id()?;
    connection.damage_create(damage, root, ReportLevel::RAW_RECTANGLES)?.check()?;
    Ok((number, connection, root))
}

impl Drop for Display {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
