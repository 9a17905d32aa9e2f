//! Images: tags, uploads, and files that are none.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Installation, code, image_file};

pub fn files_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The same, once the parts of images that failed are gone: each keeps its lock until its row says so, and goes then.
pub async fn files_left_in(directory: &Path) -> Vec<String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let names = files_in(directory);
        if Instant::now() > end
            || !names.iter().any(|name| name.starts_with('.') && !name.starts_with(".upload-"))
        {
            return names;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_mean_one_published_image_of_an_osf() {
    let it = Installation::start("tags").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let local = it.path("one.tar.gz");
    image_file(&local);
    let new = |rest: &str| format!("file={},osf=office{rest}", local.display());
    it.qa4(&["di", "new", &new(",version=v1,tags=[stable]")]).await.unwrap();
    it.qa4(&["di", "new", &new(",version=v2")]).await.unwrap();
    let tags = async |version: &str| {
        let rows = it.rows(&["di", &format!("version={version}"), "get", "tags"]).await;
        let tags = rows[0]["tags"].as_array().unwrap();
        tags.iter().map(|t| t["tag"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(tags("v1").await, ["default", "stable", "v1"]);
    assert_eq!(tags("v2").await, ["head", "v2"]);
    let tagged = async |filter: &str| {
        let rows = it.rows(&["di", filter, "get", "version"]).await;
        rows.iter().map(|row| row["version"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(tagged("tag=stable").await, ["v1"]);
    assert_eq!(tagged("tags=[head,default]").await, ["v1", "v2"]);
    assert_eq!(tagged("tag~'he%'").await, ["v2"]);
    assert_eq!(tagged("!tag=default").await, ["v2"]);
    it.qa4(&["di", "version=v2", "tag", "default,stable"]).await.unwrap();
    assert_eq!(tags("v1").await, ["v1"]);
    assert_eq!(tags("v2").await, ["default", "head", "stable", "v2"]);
    assert_eq!(code(it.qa4(&["di", "version=v1", "tag", "v2"]).await), 7330);
    for kept in ["default", "head", "v2"] {
        assert_eq!(code(it.qa4(&["di", "version=v2", "untag", kept]).await), 7340, "{kept}");
    }
    it.qa4(&["di", "version=v2", "untag", "stable,unknown"]).await.unwrap();
    assert_eq!(code(it.qa4(&["di", "new", &new(",version=v2")]).await), 7200);
    for moving in ["head", "default"] {
        assert_eq!(code(it.qa4(&["di", "new", &new(&format!(",version={moving}"))]).await), 6330);
    }

    it.qa4(&["user", "new", "name=u,password=p"]).await.unwrap();
    it.qa4(&["vm", "new", "name=d,user=u,osf=office"]).await.unwrap();
    assert_eq!(it.rows(&["vm", "get", "di_version"]).await[0]["di_version"], "v2");
    assert_eq!(code(it.qa4(&["di", "version=v2", "del"]).await), 7120);
    it.qa4(&["vm", "d", "del"]).await.unwrap();
    it.qa4(&["di", "version=v2", "del"]).await.unwrap();
    assert_eq!(tags("v1").await, ["default", "head", "v1"], "inherited from the deleted image");
    assert_eq!(files_in(&it.path("images")).len(), 1);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_an_image_leaves_nothing_behind() {
    let it = Installation::start("notimages").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let good = it.path("good.tar.gz");
    image_file(&good);
    let bytes = fs::read(&good).unwrap();
    let cut = it.path("cut.tar.gz");
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let text = it.path("text.tar.gz");
    fs::write(&text, "this is not an archive").unwrap();
    let from = |path: &Path, how: &str| format!("{how}={},osf=office", path.display());

    assert_eq!(code(it.qa4(&["di", "new", &from(&text, "file")]).await), 9001);
    assert_eq!(code(it.qa4(&["di", "new", &from(&cut, "file")]).await), 9002);
    assert_eq!(code(it.qa4(&["di", "new", "path=/nowhere/x.tar,osf=office"]).await), 2240);
    assert_eq!(code(it.qa4(&["di", "new", "disk_image=missing.tar,osf=office"]).await), 2240);
    assert_eq!(code(it.qa4(&["di", "new", "disk_image=../cert.pem,osf=office"]).await), 6330);
    assert_eq!(code(it.qa4(&["di", "new", &from(&good, "file").replace("office", "none")]).await), 7110);
    fs::rename(&text, it.path("staging/text.tar.gz")).unwrap();
    assert_eq!(code(it.qa4(&["di", "new", "disk_image=text.tar.gz,osf=office"]).await), 9001);
    assert!(it.rows(&["di", "get"]).await.is_empty());
    assert!(files_in(&it.path("images")).is_empty());

    // Damage that shows only when the whole file is read is found in the background.
    fs::rename(&cut, it.path("staging/cut.tar.gz")).unwrap();
    assert_eq!(code(it.qa4(&["di", "new", "disk_image=cut.tar.gz,osf=office"]).await), 9002);
    let rows = it.rows(&["di", "get", "state,error_code,status_message"]).await;
    assert_eq!((rows[0]["state"].as_str(), rows[0]["error_code"].as_i64()), (Some("fail"), Some(9002)));
    assert!(files_left_in(&it.path("images")).await.is_empty());
    let story = it.qa4(&["di", "cut.tar.gz", "explain"]).await.unwrap();
    assert!(story.contains("damaged or incomplete"), "{story}");
    it.qa4(&["di", "cut.tar.gz", "del"]).await.unwrap();

    fs::remove_dir(it.path("images")).unwrap();
    assert_eq!(code(it.qa4(&["di", "new", &from(&good, "file")]).await), 2220);
    it.stop().await;
}

/// Neither the usual limit of request bodies nor a buffer stands in the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_some_megabytes_arrives_whole() {
    let it = Installation::start("large").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let path = it.path("large.tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).unwrap());
    let mut state = 1_u32;
    let content: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    })
    .take(9 << 20)
    .collect();
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.append_data(&mut header, "sbin/init", content.as_slice()).unwrap();
    archive.into_inner().unwrap();
    it.qa4(&["di", "new", &format!("path={},osf=office", path.display())]).await.unwrap();
    assert_eq!(fs::read(it.path("images/10000-large.tar")).unwrap(), fs::read(&path).unwrap());
    // One megabyte is allowed, and the rest of the file is not kept.
    it.qa4(&["config", "set", "key=api.upload.max,value=1"]).await.unwrap();
    assert_eq!(code(it.qa4(&["di", "new", &format!("file={},osf=office", path.display())]).await), 9003);
    assert_eq!(files_in(&it.path("images")), ["10000-large.tar"]);
    it.stop().await;
}

/// A process that ends during an import leaves a row and a part; the next one cleans up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_imports_are_given_up_at_the_next_start() {
    let it = Installation::start("interrupted").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    it.sql(
        "INSERT INTO dis (osf_id, path, version) VALUES (10000, '10000-x.tar', 'v'); \
         INSERT INTO di_runtimes (di_id, state) VALUES (10000, 'uploading')",
    )
    .await;
    fs::write(it.path("images/.10000-x.tar.part"), "half").unwrap();
    let it = it.restarted().await;
    let rows = it.rows(&["di", "get", "state,status_message"]).await;
    assert_eq!(rows[0]["state"], "fail");
    assert!(rows[0]["status_message"].as_str().unwrap().contains("import the file again"));
    assert!(files_in(&it.path("images")).is_empty());
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_a_file_is_known_and_has_to_boot() {
    let it = Installation::start("imagecheck").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    let archive = |name: &str, files: &[(&str, &str)]| {
        let mut archive = tar::Builder::new(fs::File::create(it.path(name)).unwrap());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap();
    };
    let passwd = "root:x:0:0::/root:/bin/sh\nubuntu:x:1000:1000::/home/ubuntu:/bin/sh\n";
    archive("staging/good.zip", &[("sbin/init", "i"), ("etc/passwd", passwd)]);
    archive("staging/noinit.tar", &[("sbin/other", "i"), ("etc/passwd", passwd)]);
    archive("staging/out.tar", &[("sbin/init", "i")]);
    let mut disk = vec![0; 4096];
    disk[..4].copy_from_slice(b"QFI\xfb");
    disk[7] = 3;
    fs::write(it.path("staging/disk.tar.gz"), &disk).unwrap();

    let new = async |rest: &str| it.qa4(&["di", "new", &format!("{rest},osf=office")]).await;
    new("disk_image=good.zip").await.unwrap();
    let row = it.rows(&["di", "get", "format,unpacked_size,remarks,size"]).await[0].clone();
    assert_eq!(
        (&row["format"], &row["unpacked_size"]),
        (&serde_json::json!("tar"), &row["size"]),
        "by content"
    );
    let remarks = row["remarks"].as_str().unwrap();
    assert!(remarks.contains("no qvd-vma") && remarks.contains("ubuntu (1000)"), "{remarks}");
    for (file, reason) in [("noinit.tar", "no sbin/init"), ("disk.tar.gz", "containers boot archives")] {
        let refused = new(&format!("disk_image={file}")).await.unwrap_err().to_string();
        assert!(refused.contains(reason) && refused.ends_with("[code 9001]"), "{refused}");
        // Sent from here nothing is begun.
        let sent = format!("file={}", it.path("staging").join(file).display());
        let before = it.rows(&["di", "get"]).await.len();
        assert_eq!(code(new(&sent).await), 9001, "{file}");
        assert_eq!(it.rows(&["di", "get"]).await.len(), before);
    }
    // A checksum counts wherever the file comes from.
    let wrong = "0".repeat(64);
    assert_eq!(code(new(&format!("disk_image=good.zip,sha256={wrong}")).await), 9021);
    let local = it.path("staging/good.zip");
    assert_eq!(code(new(&format!("file={},sha256={wrong}", local.display())).await), 9021);
    assert_eq!(new("disk_image=good.zip,sha256=abc").await.unwrap_err().exit_code(), 2);
    it.qa4(&["config", "set", "key=vm.hypervisor,value=kvm"]).await.unwrap();
    assert_eq!(code(new("disk_image=good.zip").await), 9001);
    new("disk_image=disk.tar.gz").await.unwrap();
    assert_eq!(it.rows(&["di", "state=published", "get", "format"]).await[1]["format"], "qcow2");
    // An OSF may have its own.
    for command in ["new key=vm.hypervisor,tenant=default", "vm.hypervisor assign osf"] {
        let words: Vec<&str> = ["property"].into_iter().chain(command.split(' ')).collect();
        it.qa4(&words).await.unwrap();
    }
    it.qa4(&["osf", "office", "set", "vm.hypervisor=lxc"]).await.unwrap();
    new("disk_image=good.zip").await.unwrap();
    let refused = new("disk_image=disk.tar.gz").await.unwrap_err().to_string();
    assert!(refused.contains("vm.hypervisor of its OSF is lxc"), "{refused}");
    it.stop().await;
}
