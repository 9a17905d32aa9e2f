//! Images of containers: they become archives of root file systems, however they come.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::images::files_left_in;
use crate::{Installation, code, image_file};

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        archive.append_data(&mut header, name, *content).unwrap();
    }
    archive.into_inner().unwrap()
}

/// An archive in the layout of OCI with two layers.
fn container_image(path: &Path) -> Vec<u8> {
    let lower: [(&str, &[u8]); 3] = [("sbin/init", b"init"), ("etc/hostname", b"old"), ("etc/motd", b"gone")];
    container_image_of(path, &lower)
}

/// One of whose layers the lower one has these files.
pub fn container_image_of(path: &Path, lower: &[(&str, &[u8])]) -> Vec<u8> {
    let layers = [archive(lower), archive(&[("etc/hostname", b"new"), ("etc/.wh.motd", b"")])];
    let mut blobs: Vec<(String, Vec<u8>)> = Vec::new();
    let mut blob = |bytes: &[u8]| {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        blobs.push((format!("blobs/sha256/{digest}"), bytes.to_vec()));
        format!("sha256:{digest}")
    };
    let digests = layers.each_ref().map(|layer| blob(layer));
    let described: Vec<Value> = digests
        .iter()
        .map(|digest| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest}))
        .collect();
    let config = blob(json!({"rootfs": {"diff_ids": digests}}).to_string().as_bytes());
    let manifest = blob(json!({"config": {"digest": config}, "layers": described}).to_string().as_bytes());
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index = json!({"manifests": [{"mediaType": kind, "digest": manifest}]}).to_string();
    let mut files: Vec<(&str, &[u8])> =
        blobs.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    files.extend([("oci-layout", &b"{}"[..]), ("index.json", index.as_bytes())]);
    let bytes = archive(&files);
    fs::write(path, &bytes).unwrap();
    bytes
}

fn contents(path: &Path) -> BTreeMap<String, String> {
    let inside = zstd::Decoder::new(fs::File::open(path).unwrap()).unwrap();
    let mut archive = tar::Archive::new(inside);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        (entry.path().unwrap().display().to_string(), text)
    });
    entries.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_image_becomes_one_archive() {
    let it = Installation::start("containers").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    container_image(&it.path("staging/staged.tar"));
    let mut bytes = container_image(&it.path("sent.tar"));
    it.qa4(&["di", "new", "docker=staged.tar,osf=office"]).await.unwrap();
    it.qa4(&["di", "new", "disk_image=staged.tar,osf=office"]).await.unwrap();
    it.qa4(&["di", "new", &format!("file={},osf=office", it.path("sent.tar").display())]).await.unwrap();
    let wanted = [("etc/hostname", "new"), ("sbin/init", "init")];
    let wanted: BTreeMap<_, _> = wanted.map(|(path, text)| (path.to_owned(), text.to_owned())).into();
    let images = ["10000-staged.tar", "10001-staged.tar", "10002-sent.tar"];
    assert_eq!(files_left_in(&it.path("images")).await, images);
    for image in images {
        assert_eq!(contents(&it.path("images").join(image)), wanted, "{image}");
    }
    for row in it.rows(&["di", "get", "state,disk_image,sha256,size"]).await {
        assert_eq!(row["state"], "published", "{row}");
        let kept = fs::read(it.path("images").join(row["disk_image"].as_str().unwrap())).unwrap();
        let sum: String = Sha256::digest(&kept).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            (&row["sha256"], row["size"].as_f64().unwrap()),
            (&json!(sum), kept.len() as f64),
            "what nodes get"
        );
    }

    // One that is damaged, one that is none, and one that is elsewhere.
    let at = bytes.windows(4).position(|part| part == b"init").unwrap() + 512;
    bytes[at] ^= 1;
    fs::write(it.path("staging/damaged.tar"), &bytes).unwrap();
    assert_eq!(code(it.qa4(&["di", "new", "docker=damaged.tar,osf=office"]).await), 9002);
    image_file(&it.path("staging/plain.tar.gz"));
    assert_eq!(code(it.qa4(&["di", "new", "docker=plain.tar.gz,osf=office"]).await), 9001);
    for reference in ["registry.example:5000/a/b:1", "debian"] {
        let refused =
            it.qa4(&["di", "new", &format!("di_type=docker,disk_image={reference},osf=office")]).await;
        let text = refused.as_ref().unwrap_err().to_string();
        assert!(text.contains("registries are not asked"), "{text}");
        assert!([2240, 6330].contains(&code(refused)), "{text}");
    }
    assert_eq!(files_left_in(&it.path("images")).await, images);
    it.stop().await;
}
