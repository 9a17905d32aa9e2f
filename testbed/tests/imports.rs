//! The API is killed while images come in: no half image, nothing that stays on its way for ever, and `qa4` goes on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed test says where it failed"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use postgres::NoTls;
use qvd_runtime::postgres::TemporaryCluster;
use tempfile::TempDir;
use testbed::programs::program;

/// Nothing takes longer, on a busy machine either.
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes of the images.
const SIZE: usize = 24 << 20;

/// A database and an API, both real.
struct Installation {
    directory: TempDir,
    cluster: TemporaryCluster,
    api: Option<Child>,
}

impl Installation {
    fn new() -> Self {
        let cluster = TemporaryCluster::start().unwrap();
        let directory = TempDir::new().unwrap();
        let mut it = Self { directory, cluster, api: None };
        for name in ["images", "staging", "home"] {
            fs::create_dir(it.at(name)).unwrap();
        }
        let mut administrator = it.database("postgres");
        administrator.batch_execute("CREATE DATABASE imports").unwrap();
        let text = format!(
            "nodename = n\ndatabase.host = {host}\ndatabase.name = imports\ndatabase.user = postgres\n\
             database.secrets.file = {dir}/secrets.key\napi.url = https://127.0.0.1:0/\n\
             api.socket = {dir}/api.sock\nlog.api.filename = {dir}/api.log\n\
             path.api.ssl.cert = {dir}/cert.pem\npath.api.ssl.key = {dir}/key.pem\n\
             path.storage.images = {dir}/images\npath.storage.staging = {dir}/staging\n",
            host = it.cluster.socket_directory().display(),
            dir = it.directory.path().display(),
        );
        let names = ["localhost".to_owned()];
        let pair = qvd_relay::certificate::self_signed(&names).unwrap();
        fs::write(it.at("cert.pem"), &pair.cert).unwrap();
        fs::write(it.at("key.pem"), &pair.key).unwrap();
        fs::write(it.at("api.conf"), text).unwrap();
        let deployed = it.command("qvd", &["deploy-db", "--config-file"]).arg(it.at("api.conf")).output();
        let deployed = deployed.unwrap();
        assert!(deployed.status.success(), "{}", String::from_utf8_lossy(&deployed.stderr));
        it.start();
        it.qa4(&["osf", "new", "name=office,tenant=default"]);
        it
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program(name).unwrap());
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("HOME", self.at("home")).env("QVD_SOCKET", self.at("api.sock"));
        command
    }

    fn database(&self, name: &str) -> postgres::Client {
        let host = self.cluster.socket_directory().display().to_string();
        postgres::Config::new().host(&host).user("postgres").dbname(name).connect(NoTls).unwrap()
    }

    fn start(&mut self) {
        let arguments = ["daemon", "api", "-X", "--config-file"];
        let child = self.command("qvd", &arguments).arg(self.at("api.conf")).spawn().unwrap();
        let said_by = self.api.insert(child).stderr.take().unwrap();
        let mut said = Vec::new();
        let mut lines = BufReader::new(said_by).lines();
        for line in lines.by_ref().map_while(Result::ok) {
            let serves = line.contains("the API serves");
            said.push(line);
            if serves {
                // What it says later must not fill the pipe.
                std::thread::spawn(move || lines.for_each(drop));
                return;
            }
        }
        panic!("the API does not serve: {said:#?}");
    }

    /// Kills the API as nothing it could notice, and starts the next one.
    fn kill(&mut self) {
        let mut child = self.api.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        self.start();
    }

    fn qa4(&self, arguments: &[&str]) -> String {
        let output = self.command("qa4", arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// State and file of each image.
    fn images(&self) -> Vec<(String, String, Option<String>)> {
        let sql = "SELECT r.state::text, d.path, d.sha256 FROM dis AS d \
                   JOIN di_runtimes AS r ON r.di_id = d.id ORDER BY d.id";
        let rows = self.database("imports").query(sql, &[]).unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.at("images")).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Waits until each image is published or has failed; the files are those of published ones, and whole.
    fn settles(&self) -> usize {
        let end = Instant::now() + LIMIT;
        let published = loop {
            let images = self.images();
            if images.iter().all(|(state, ..)| state == "published" || state == "fail") {
                break images.into_iter().filter(|(state, ..)| state == "published").collect::<Vec<_>>();
            }
            assert!(Instant::now() < end, "still on their way: {images:?}");
            std::thread::sleep(Duration::from_millis(50));
        };
        let mut files: Vec<_> = published.iter().map(|(_, file, _)| file.clone()).collect();
        files.sort();
        assert_eq!(self.files(), files);
        for (_, file, sum) in &published {
            let output = Command::new("sha256sum").arg(self.at("images").join(file)).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text.split(' ').next(), sum.as_deref(), "{file}");
        }
        published.len()
    }

    /// Waits until something is so, or until `still` is not.
    fn wait(&self, mut is: impl FnMut() -> bool, mut still: impl FnMut() -> bool) -> bool {
        let end = Instant::now() + LIMIT;
        while !is() {
            assert!(Instant::now() < end, "it never came to that");
            if !still() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        true
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(mut child) = self.api.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An image of `SIZE` bytes, as far as the API looks at it.
fn image() -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, size) in [("sbin/init", SIZE), ("usr/bin/qvd-vma", 1000)] {
        let mut header = [0_u8; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000755\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[148..156].copy_from_slice(b"        ");
        header[156] = b'0';
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend_from_slice(&header);
        archive.extend((0..size.next_multiple_of(512)).map(|n| if n < size { (n % 251) as u8 } else { 0 }));
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

#[test]
fn qa4_goes_on_with_an_upload_when_the_api_comes_back() {
    let mut it = Installation::new();
    let bytes = image();
    let file = it.at("one.tar");
    fs::write(&file, &bytes).unwrap();
    let new = format!("file={},osf=office", file.display());
    let mut qa4 = it.command("qa4", &["di", "new", &new]).spawn().unwrap();
    let images = it.at("images");
    let arrived = || {
        let entries = fs::read_dir(&images).unwrap().filter_map(Result::ok);
        let parts = entries.filter(|e| e.file_name().to_string_lossy().ends_with(".part"));
        parts.filter_map(|e| e.metadata().ok()).map(|meta| meta.len()).max().unwrap_or(0)
    };
    let mut kills = 0;
    for part in [bytes.len() / 20, bytes.len() / 2, bytes.len()] {
        if it.wait(|| arrived() >= part as u64, || qa4.try_wait().unwrap().is_none()) {
            it.kill();
            kills += 1;
        }
    }
    let output = qa4.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "after {kills} kills: {said}");
    assert!(kills >= 2, "it was too fast: {said}");
    assert!(it.settles() >= 1, "{:?}", it.images());
}

#[test]
fn imports_of_a_killed_api_are_finished_or_given_up() {
    let mut it = Installation::new();
    fs::write(it.at("staging/one.tar"), image()).unwrap();
    let mut before = 0;
    for (round, pause) in [0, 5, 20, 60, 150, 400, 1000].into_iter().enumerate() {
        let new = ["di", "new", "disk_image=one.tar,osf=office", "--no-wait"];
        it.qa4(&new);
        std::thread::sleep(Duration::from_millis(pause));
        it.kill();
        let published = it.settles();
        assert!(published >= before && it.images().len() == round + 1, "{:?}", it.images());
        before = published;
    }
    // One that is left alone becomes an image: the last round had no reason to fail but the kill.
    it.qa4(&["di", "new", "disk_image=one.tar,osf=office"]);
    assert_eq!(it.settles(), before + 1);
    let why = "SELECT count(*) FROM di_runtimes WHERE state = 'fail' AND status_message IS NULL";
    let unexplained: i64 = it.database("imports").query_one(why, &[]).unwrap().get(0);
    assert_eq!(unexplained, 0);
}
