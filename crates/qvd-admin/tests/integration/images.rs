//! Images: tags, uploads, and files that are none.

use std::fs;
use std::path::Path;

use crate::{Installation, code, image_file};

pub fn files_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
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
    assert!(files_in(&it.path("images")).is_empty());
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
