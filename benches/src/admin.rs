//! The API with a large installation: what lists, changes and logins take while requests keep coming, and what `qa4`
//! takes as a whole.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use qvd_auth::Hasher;
use qvd_db::Database;
use qvd_db::deploy::Deployment;
use qvd_relay::certificate::{SelfSigned, self_signed};
use qvd_runtime::postgres::TemporaryCluster;
use secrecy::SecretString;
use serde_json::{Value, json};
use testbed::programs::program;
use testbed::scratch::administrator;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::daemon::Daemon;
use crate::peer;
use crate::table::{Table, percentile};
use crate::usage;

/// Connections that wait for requests; each carries one at a time.
const CONNECTIONS: u32 = 40;
/// One request in so many is a login.
const LOGIN_EVERY: u32 = 50;
/// Of the others, so many in ten are changes.
const CHANGES: u32 = 3;
/// How often `qa4` runs.
const RUNS: usize = 40;
const PASSWORD: &str = "open sesame";

/// Measures with this many VMs and requests in each second.
pub fn measure(table: &mut Table, vms: u32, rate: u32, seconds: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(table, vms, rate, seconds))
}

async fn run(table: &mut Table, vms: u32, rate: u32, seconds: u32) -> Result<()> {
    let cluster = TemporaryCluster::start()?;
    deploy(&cluster, vms).await?;
    let directory = tempfile::tempdir()?;
    let certificate = self_signed(&["localhost".to_owned()])?;
    let api = Api::start(&cluster, &certificate, directory.path()).await?;
    let times = load(&api, &certificate, vms, rate, seconds).await?;
    let load = format!("{vms} VMs, {rate} requests/s");
    for (what, times, budget) in [
        ("list of 25 VMs, filtered, by the name of the user", &times.lists, "p99 ≤ 50 ms"),
        ("change of a VM", &times.changes, "p99 ≤ 100 ms"),
        ("login of an administrator", &times.logins, ""),
    ] {
        let figure = format!("p50 {:.1} ms, p99 {:.1} ms", percentile(times, 0.5), percentile(times, 0.99));
        table.row(&format!("API, {what}"), figure, format!("{} with {load}", times.len()), budget);
    }
    let memory = usage::own_memory(api.daemon.pid())?;
    let peak = usage::peak_memory(api.daemon.pid())?;
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    table.row(
        "API, memory of its own after that",
        mebibytes(memory),
        format!("{} at most", mebibytes(peak)),
        "",
    );
    let cost = usage::process(api.daemon.pid())?;
    let share = cost.as_secs_f64() / f64::from(seconds) * 100.0;
    table.row("API, processor time", format!("{share:.0} % of a core"), load, "");
    qa4(table, &api, directory.path(), vms)
}

/// `qa4 vm get` of one VM, with a session that was saved before.
fn qa4(table: &mut Table, api: &Api, directory: &Path, vms: u32) -> Result<()> {
    let mut times = Vec::with_capacity(RUNS);
    for run in 0..=RUNS {
        let name = format!("name=vm{}", 1 + run * 7 % usize::try_from(vms)?);
        let begun = Instant::now();
        let answer = Command::new(program("qa4")?)
            .args(["vm", &name, "get", "name,state"])
            .env_clear()
            .env("HOME", directory)
            .env("QVD_URL", format!("https://localhost:{}/", api.address.port()))
            .env("QVD_CA", directory.join("cert.pem"))
            .envs([("QVD_LOGIN", "superadmin"), ("QVD_TENANT", "*"), ("QVD_PASSWORD", PASSWORD)])
            .stdin(Stdio::null())
            .output()?;
        let took = begun.elapsed();
        let said = String::from_utf8_lossy(&answer.stdout);
        ensure!(answer.status.success() && said.contains("running"), "qa4: {answer:?}");
        // The first one logs in.
        if run > 0 {
            times.push(took);
        }
    }
    let figure = format!("p50 {:.1} ms, p99 {:.1} ms", percentile(&times, 0.5), percentile(&times, 0.99));
    table.row("`qa4 vm get` of one VM, whole process, saved session", figure, "", "≤ 30 ms");
    Ok(())
}

/// What requests took, from the moment they were due.
#[derive(Debug, Default)]
struct Times {
    lists: Vec<Duration>,
    changes: Vec<Duration>,
    logins: Vec<Duration>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    List,
    Change,
    Login,
}

/// Requests at a fixed rate, however long the ones before take.
async fn load(api: &Api, certificate: &SelfSigned, vms: u32, rate: u32, seconds: u32) -> Result<Times> {
    let tls = Arc::new(peer::client_config(certificate, true)?);
    let (due, requests) = tokio::sync::mpsc::unbounded_channel::<(u32, Instant)>();
    let requests = Arc::new(tokio::sync::Mutex::new(requests));
    let mut workers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(tls.clone(), api.address).await?;
        let answer = connection.ask(&login(json!({"action": "current_admin_setup"}))).await?;
        let session = answer["sid"].as_str().context("no session")?.to_owned();
        let requests = requests.clone();
        workers.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let next = requests.lock().await.recv().await;
                let Some((number, due)) = next else { return anyhow::Ok(taken) };
                let (kind, mut request) = request(number, vms);
                if !matches!(kind, Kind::Login) {
                    request["sid"] = json!(session);
                }
                let answer = connection.ask(&request).await?;
                ensure!(answer["status"] == 0, "{request} is answered with {answer}");
                taken.push((kind, due.elapsed()));
            }
        });
    }
    let begun = Instant::now();
    for number in 0..rate * seconds {
        let moment = begun + Duration::from_secs(1) * number / rate;
        tokio::time::sleep_until(moment.into()).await;
        due.send((number, moment))?;
    }
    drop(due);
    let mut times = Times::default();
    while let Some(taken) = workers.join_next().await {
        for (kind, time) in taken?? {
            match kind {
                Kind::List => times.lists.push(time),
                Kind::Change => times.changes.push(time),
                Kind::Login => times.logins.push(time),
            }
        }
    }
    Ok(times)
}

/// The request of this number: each list is filtered in another way, each change is of another VM.
fn request(number: u32, vms: u32) -> (Kind, Value) {
    if number % LOGIN_EVERY == LOGIN_EVERY - 1 {
        return (Kind::Login, login(json!({"action": "current_admin_setup"})));
    }
    let vm = 1 + number.wrapping_mul(7919) % vms;
    if number % 10 < CHANGES {
        let change = json!({"action": "vm_update", "filters": {"id": vm},
                            "arguments": {"description": format!("changed by {number}")}});
        return (Kind::Change, change);
    }
    let filters = match number % 3 {
        0 => json!({"state": "running"}),
        1 => json!({"name": {"~": format!("vm{}%", vm % 100)}}),
        _ => json!({"osf_name": format!("osf{}", 1 + vm % 100)}),
    };
    let list = json!({"action": "vm_get_list", "filters": filters, "offset": 1, "block": 25,
                      "fields": ["id", "name", "user_name", "osf_name", "host_name", "state", "user_state", "ip", "blocked"],
                      "order_by": {"field": "user_name", "order": "-asc"}});
    (Kind::List, list)
}

fn login(mut request: Value) -> Value {
    request["login"] = json!("superadmin");
    request["tenant"] = json!("*");
    request["password"] = json!(PASSWORD);
    request
}

/// A connection that is kept.
struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    async fn open(tls: Arc<rustls::ClientConfig>, address: SocketAddr) -> Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let stream = TlsConnector::from(tls).connect(peer::name()?, tcp).await?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(driver);
        Ok(Self(sender))
    }

    async fn ask(&mut self, request: &Value) -> Result<Value> {
        let request = hyper::Request::post("/api")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::from(request.to_string()))?;
        let answer = self.0.send_request(request).await?.into_body().collect().await?.to_bytes();
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// An API process.
struct Api {
    daemon: Daemon,
    address: SocketAddr,
}

impl Api {
    async fn start(cluster: &TemporaryCluster, certificate: &SelfSigned, directory: &Path) -> Result<Self> {
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let at = |name: &str| directory.join(name);
        for name in ["images", "staging"] {
            std::fs::create_dir(at(name))?;
        }
        std::fs::write(at("cert.pem"), &certificate.cert)?;
        std::fs::write(at("key.pem"), &certificate.key)?;
        let mut text = format!(
            "nodename = node1\ndatabase.host = {}\ndatabase.name = postgres\ndatabase.user = qvd_api\n\
             api.url = https://127.0.0.1:{port}/\nlog.level = WARN\n",
            cluster.socket_directory().display(),
        );
        for (key, file) in [
            ("path.run", "."),
            ("api.socket", "api.sock"),
            ("path.api.ssl.cert", "cert.pem"),
            ("path.api.ssl.key", "key.pem"),
            ("path.storage.images", "images"),
            ("path.storage.staging", "staging"),
            ("log.filename", "api.log"),
        ] {
            writeln!(text, "{key} = {}", at(file).display())?;
        }
        let config = at("api.conf");
        std::fs::write(&config, text)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self { daemon: Daemon::start("qvd-api", &config, address).await?, address })
    }
}

/// Users with a VM each on 50 hosts, of 100 flavours.
async fn deploy(cluster: &TemporaryCluster, vms: u32) -> Result<()> {
    let settings = administrator(cluster);
    let hash = SecretString::from(Hasher::new(1).hash(PASSWORD.as_bytes()).await?);
    let deployment =
        Deployment { administrators: vec![("superadmin".to_owned(), hash)], ..Deployment::default() };
    qvd_db::deploy::deploy(&settings, &deployment).await?;
    let rows = format!(
        "INSERT INTO users (id, login, tenant_id, password)
             SELECT n, 'user' || n, 1, 'x' FROM generate_series(1, {vms}) AS n;
         INSERT INTO osfs (id, tenant_id, name, memory, use_overlay)
             SELECT n, 1, 'osf' || n, 256, true FROM generate_series(1, 100) AS n;
         INSERT INTO dis (id, osf_id, path, version) SELECT n, n, 'image' || n, 'v' || n FROM generate_series(1, 100) AS n;
         INSERT INTO di_runtimes (di_id, state) SELECT n, 'published' FROM generate_series(1, 100) AS n;
         INSERT INTO di_tags (di_id, tag, fixed)
             SELECT n, tag, false FROM generate_series(1, 100) AS n, unnest(ARRAY['default', 'head']) AS tag;
         INSERT INTO hosts (id, name, address, frontend, backend)
             SELECT n, 'host' || n, '10.9.0.' || n, true, true FROM generate_series(1, 50) AS n;
         INSERT INTO host_runtimes (host_id, state, blocked)
             SELECT n, 'running', false FROM generate_series(1, 50) AS n;
         INSERT INTO vms (id, name, user_id, osf_id, di_tag, ip)
             SELECT n, 'vm' || n, n, 1 + n % 100, 'default', '10.2.' || n / 256 || '.' || n % 256
             FROM generate_series(1, {vms}) AS n;
         INSERT INTO vm_runtimes (vm_id, vm_state, user_state, blocked, host_id)
             SELECT n, 'running', 'connected', false, 1 + n % 50 FROM generate_series(1, {vms}) AS n;
         ANALYZE"
    );
    let client = Database::new(&settings)?.client().await?;
    client.batch_execute(&rows).await.context("cannot insert the rows")
}
