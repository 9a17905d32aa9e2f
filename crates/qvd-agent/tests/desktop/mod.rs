//! A desktop without a container: a root directory of its own for accounts and homes, the real nxagent, Xvfb
//! in place of the user's screen and nxproxy in place of the client.

#![allow(clippy::unwrap_used, clippy::panic, dead_code, reason = "tests; each file uses a part")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qvd_agent::{Service, Settings};
use qvd_model::SessionState;
use qvd_rpc::Agent;
use qvd_runtime::Config;
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const LIMIT: Duration = Duration::from_secs(30);
pub const SECRET: &str = "0123456789abcdef";
/// No account of this machine has it.
pub const UID: u32 = 54_321;

pub struct Desktop {
    pub directory: tempfile::TempDir,
    pub settings: Settings,
    pub agent: Agent,
    pub nx: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

/// Settings of a desktop in this directory, with an account database of its own.
pub fn settings(directory: &Path) -> Settings {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (path, text) in [
        ("root/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("root/etc/group", "root:x:0:\naudio:x:29:\n"),
        ("root/etc/shadow", "root:*:19000:0:99999:7:::\n"),
        ("root/etc/gshadow", "root:*::\naudio:!::\n"),
        ("root/etc/login.defs", "UID_MIN 1000\nUID_MAX 60000\n"),
        ("root/etc/skel/.profile", "# skeleton\n"),
        ("secret", SECRET),
    ] {
        let path = directory.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut settings = Settings::read(&Config::parse("vma.conf", "").unwrap().now()).unwrap();
    settings.display = free_display();
    settings.rpc = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    settings.nx = settings.rpc;
    settings.refuse_local = false;
    settings.root = directory.join("root");
    settings.run = directory.join("run");
    settings.log = directory.join("log");
    settings.secret = directory.join("secret");
    settings.nx_options = settings.run.join("nxagent.conf");
    settings.programs.x_session = PathBuf::from("/usr/bin/xterm");
    settings.programs.x_session_args = vec!["-T".into(), "the desktop".into()];
    settings
}

impl Desktop {
    pub async fn start(change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = settings(directory.path());
        change(&mut settings);
        let service = Service::bind(settings.clone()).await.unwrap();
        let (rpc, nx) = (service.rpc_address().unwrap(), service.nx_address().unwrap());
        let stop = CancellationToken::new();
        let served = tokio::spawn(service.serve(stop.clone()));
        let agent = Agent::new(rpc.ip(), rpc.port(), Some(SecretString::from(SECRET)));
        Self { directory, settings, agent, nx, stop, served }
    }

    /// Parameters of a session for joe.
    pub fn parameters(&self) -> Vec<(String, String)> {
        let uid = UID.to_string();
        [
            ("qvd.vm.user.name", "joe"),
            ("qvd.vm.user.uid", &uid),
            ("qvd.vm.user.groups", "audio,nosuchgroup"),
            ("qvd.client.os", "linux"),
            ("qvd.client.link", "local"),
            ("qvd.client.geometry", "800x600"),
            ("qvd.client.keyboard", "pc105/en"),
            ("qvd.client.fullscreen", "0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    pub async fn state_becomes(&self, wanted: SessionState) {
        let since = Instant::now();
        let mut seen = Vec::new();
        while since.elapsed() < LIMIT {
            let state = self.agent.x_state(LIMIT).await.unwrap();
            if state == wanted {
                return;
            }
            if seen.last() != Some(&state) {
                seen.push(state);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let agent = read(self.settings.log.join("qvd-nxagent.log"));
        let proxies: String = std::fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| read(entry.unwrap().path().join("nxproxy.log")))
            .collect();
        panic!("never {wanted}, but {seen:?}\n{agent}\n{proxies}");
    }

    /// The id of the window with this title on the session's display.
    pub fn session_window(&self, title: &str) -> Option<String> {
        let cookie = self.settings.run.join("session/xauthority");
        window(&format!(":{}", self.settings.display), Some(&cookie), title)
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.served.await.unwrap();
    }
}

/// The id of the window with this title, from outside.
pub fn window(display: &str, cookie: Option<&Path>, title: &str) -> Option<String> {
    let mut command = Command::new("/usr/bin/xwininfo");
    command.args(["-display", display, "-root", "-tree"]);
    if let Some(cookie) = cookie {
        command.env("XAUTHORITY", cookie);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains(&format!("\"{title}\"")))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// A screen: Xvfb on a display that it chose itself.
pub struct Screen {
    server: Child,
    pub display: String,
}

impl Screen {
    pub fn new() -> Self {
        let mut server = Command::new("/usr/bin/Xvfb")
            .args(["-displayfd", "1", "-screen", "0", "1024x768x24", "-ac", "-nolisten", "tcp", "-noreset"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = std::io::BufReader::new(server.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut output, &mut line).unwrap();
        assert!(!line.trim().is_empty(), "Xvfb did not start");
        Self { server, display: format!(":{}", line.trim()) }
    }

    pub async fn shows(&self, title: &str) {
        let since = Instant::now();
        while window(&self.display, None, title).is_none() {
            assert!(since.elapsed() < LIMIT, "{title} never appeared on {}", self.display);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// A client: nxproxy, as every client runs it.
pub struct Client(Child);

impl Client {
    pub fn new(screen: &Screen, home: &Path, nx: SocketAddr) -> Self {
        std::fs::create_dir_all(home).unwrap();
        let child = Command::new("/usr/bin/nxproxy")
            .arg("-S")
            .arg(format!("localhost:{}", nx.port() - 4000))
            .env_clear()
            .current_dir(home)
            .env("HOME", home)
            .env("DISPLAY", &screen.display)
            .env("PATH", "/usr/bin:/bin")
            .env("NX_CLIENT", "/bin/false")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.join("nxproxy.log")).unwrap())
            .spawn()
            .unwrap();
        Self(child)
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_display() -> u16 {
    let used = std::fs::read_to_string("/proc/net/unix").unwrap();
    let start = u16::try_from(std::process::id() % 400).unwrap() + 200;
    let mut numbers = start..1000;
    numbers
        .find(|n| !used.contains(&format!("/tmp/.X11-unix/X{n}\n")) && !claimed(*n))
        .expect("a free display")
}

/// Tests of one program run at the same time: each number is given out once.
fn claimed(number: u16) -> bool {
    static GIVEN: std::sync::Mutex<Vec<u16>> = std::sync::Mutex::new(Vec::new());
    let mut given = GIVEN.lock().unwrap();
    let taken = given.contains(&number);
    given.push(number);
    taken
}
