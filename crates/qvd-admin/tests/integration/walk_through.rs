//! The manual's walk-through (chapters 6.4 and 10.4.2), to the letter.

use serde_json::json;

use crate::{Installation, image_file};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_an_image_to_a_started_vm() {
    let it = Installation::start("walk").await;
    it.running_host("node1", "10.3.15.1").await;
    let staged = it.path("staging/my_image.tar.gz");
    image_file(&staged);

    let created = it.qa4(&["osf", "new", "name=MyOSF"]).await.unwrap();
    let expected = "\
.-------.
| id    |
+-------+
| 10000 |
'-------'
Total: 1
";
    assert_eq!(created, expected);
    it.qa4(&["di", "new", &format!("path={},osf=MyOSF", staged.display())]).await.unwrap();
    let images = it.rows(&["di", "get", "name,state,tags,percentage,sha256,size"]).await;
    assert_eq!(images[0]["name"], "10000-my_image.tar.gz");
    assert_eq!(
        (images[0]["state"].as_str(), images[0]["percentage"].as_f64()),
        (Some("published"), Some(1.0))
    );
    assert_eq!(images[0]["sha256"].as_str().unwrap().len(), 64);
    let tags: Vec<_> =
        images[0]["tags"].as_array().unwrap().iter().map(|t| t["tag"].as_str().unwrap()).collect();
    assert_eq!(tags.len(), 3, "{tags:?}");
    assert!(tags.contains(&"head") && tags.contains(&"default"));
    assert_eq!(
        std::fs::read(it.path("images/10000-my_image.tar.gz")).unwrap(),
        std::fs::read(&staged).unwrap()
    );
    assert!(staged.exists(), "the staged file stays");

    it.qa4(&["di", "disk_image=my_image.tar.gz", "tag", "default,", "head,", "mytag"]).await.unwrap();
    it.qa4(&["user", "new", "name=test,password=test"]).await.unwrap();
    it.qa4(&["vm", "new", "name=TestVM,user=test,osf=MyOSF"]).await.unwrap();
    assert_eq!(it.qa4(&["vm", "name=TestVM", "start"]).await.unwrap(), "Total: 1\n");

    let listing = it.qa4(&["vm", "get"]).await.unwrap();
    let titles = listing.lines().nth(1).unwrap();
    let columns: Vec<&str> = titles.split('|').map(str::trim).filter(|c| !c.is_empty()).collect();
    let manual = "id tenant name blocked user host di ip ip_in_use di_in_use state user_state";
    assert_eq!(columns, manual.split(' ').collect::<Vec<_>>());
    let vm = &it.rows(&["vm", "get", "host,ip,mac,di_id"]).await[0];
    assert_eq!((vm["host"].as_str(), vm["ip"].as_str()), (Some("node1"), Some("10.3.15.254")));
    assert_eq!(vm["mac"], "54:52:00:03:0f:fe");

    // The node takes the command.
    it.sql("UPDATE vm_runtimes SET vm_state = 'running', vm_cmd = NULL").await;
    let selected = it.qa4(&["vm", "user~te%,state=running", "get"]).await.unwrap();
    assert!(selected.ends_with("Total: 1\n"), "{selected}");
    assert!(it.qa4(&["vm", "user~xx%,state=running", "get"]).await.unwrap().ends_with("Total: 0\n"));
    assert!(it.qa4(&["host", "get"]).await.unwrap().contains("| node1 |"));
    // It runs already: reported, not a failure.
    assert_eq!(it.qa4(&["vm", "TestVM", "start", "-q"]).await.unwrap(), "Total: 0\n");
    assert_eq!(it.qa4(&["vm", "user~te%", "stop"]).await.unwrap(), "Total: 1\n");
    it.sql("UPDATE vm_runtimes SET vm_state = 'stopped', vm_cmd = NULL, host_id = NULL").await;

    assert_eq!(it.qa4(&["vm", "name=TestVM unblock"]).await.unwrap(), "Total: 1\n");
    it.qa4(&["vm", "name=TestVM", "block"]).await.unwrap();
    assert_eq!(it.rows(&["vm", "get", "blocked"]).await[0]["blocked"], 1);
    it.qa4(&[
        "vm",
        "di_name=10000-my_image.tar.gz",
        "set",
        "expiration_soft=2030-01-31 expiration_hard=2030-02-01",
    ])
    .await
    .unwrap();

    // Each change has its row in the audit log, who and from where.
    let client = it.database().client().await.unwrap();
    let logged = "SELECT string_agg(action || ':' || qvd_object || ':' || object_name || ':' || administrator_name || \
         ':' || source || ':' || ip, ' ') FROM log WHERE action LIKE 'vm%' AND status = 0";
    let logged: String = client.query_one(logged, &[]).await.unwrap().get(0);
    for action in ["vm_create", "vm_start", "vm_stop", "vm_update"] {
        assert!(logged.contains(&format!("{action}:vm:TestVM:root:CLI:local")), "{action} in {logged}");
    }
    let story = it.qa4(&["vm", "TestVM", "explain"]).await.unwrap();
    for part in [
        "vm TestVM (10000)",
        "state: stopped",
        "admin:root",
        "created",
        "told to start on host node1",
        "blocked = true",
    ] {
        assert!(story.contains(part), "{part} in {story}");
    }
    it.qa4(&["vm", "name=TestVM", "del"]).await.unwrap();
    it.qa4(&["di", "disk_image=my_image.tar.gz", "del"]).await.unwrap();
    assert!(!it.path("images/10000-my_image.tar.gz").exists());
    it.qa4(&["user", "login=test", "del"]).await.unwrap();
    it.qa4(&["osf", "MyOSF", "del"]).await.unwrap();
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_are_set_listed_and_reset() {
    let it = Installation::start("settings").await;
    let set = ["config", "set", "tenant_id=-1,key=myproperty,value=this is a value"];
    assert_eq!(it.qa4(&set).await.unwrap(), "Total: 1\n");
    let rows = it.rows(&["config", "key=myproperty", "get"]).await;
    assert_eq!(rows[0]["value"], "this is a value");
    assert_eq!(rows[0]["is_default"], 0);
    // Registered keys are checked, keys of files refused, secrets masked, internals hidden.
    assert_eq!(crate::code(it.qa4(&["config", "set", "key=l7r.port,value=many"]).await), 6330);
    assert_eq!(crate::code(it.qa4(&["config", "set", "key=api.socket,value=/x"]).await), 9004);
    assert_eq!(crate::code(it.qa4(&["config", "set", "key=internal.x,value=1"]).await), 4230);
    let curious = ["config", "set", "key=l7r.address,value=${database.password}"];
    assert_eq!(crate::code(it.qa4(&curious).await), 6330);
    it.qa4(&["config", "set", "key=vm.network.gateway,value=10.3.15.1"]).await.unwrap();
    assert_eq!(it.rows(&["config", "vm.network.gateway", "get"]).await[0]["value"], "10.3.15.1");
    assert!(it.rows(&["config", "key~internal.%", "get"]).await.is_empty());
    let reset = ["config", "set", "tenant_id=-1,key=myproperty", "default"];
    assert_eq!(it.qa4(&reset).await.unwrap(), "Total: 1\n");
    assert!(it.rows(&["config", "key=myproperty", "get"]).await.is_empty());
    assert_eq!(crate::code(it.qa4(&["config", "key=myproperty", "default"]).await), 1300);
    // What has no effect here is listed where somebody set it.
    assert!(it.rows(&["config", "key=vm.kvm.cpus", "get"]).await.is_empty());
    it.qa4(&["config", "set", "key=vm.kvm.cpus,value=4"]).await.unwrap();
    assert_eq!(it.rows(&["config", "key=vm.kvm.cpus,tenant_id=-1", "get"]).await[0]["value"], "4");
    // A tenant's own value is over the global one, and only there.
    it.qa4(&["config", "set", "key=my.key,value=global"]).await.unwrap();
    it.qa4(&["config", "set", "key=my.key,value=own,tenant=default"]).await.unwrap();
    let own =
        it.rows(&["config", "key=my.key,tenant=default", "get", "value,default_value,is_default"]).await;
    assert_eq!(own.len(), 1);
    assert_eq!(own[0]["default_value"], "global");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vms_made_at_the_same_time_get_different_addresses() {
    let it = Installation::start("addresses").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p"]).await.unwrap();
    let arguments: Vec<String> = (0..8).map(|n| format!("name=vm{n},user=ann,osf=office")).collect();
    let made = arguments.iter().map(|a| ["vm", "new", a.as_str()]);
    let made = made.collect::<Vec<_>>();
    let outcomes = futures_util::future::join_all(made.iter().map(|a| it.qa4(a))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let rows = it.rows(&["vm", "get", "ip"]).await;
    let distinct: std::collections::HashSet<_> = rows.iter().map(|r| r["ip"].as_str().unwrap()).collect();
    assert_eq!(distinct.len(), 8);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_stops_at_the_first_failure_and_says_where() {
    let it = Installation::start("scripts").await;
    let script = it.path("script");
    std::fs::write(&script, "# flavours\nosf new name=a\nosf nothing del # not there\nosf new name=b\n")
        .unwrap();
    let name = script.display().to_string();
    assert_eq!(crate::code(it.qa4(&["--file", &name]).await), 1300);
    assert_eq!(it.rows(&["osf", "get", "name"]).await.len(), 1);
    assert_eq!(it.qa4(&["--file", &name, "--keep-going"]).await.unwrap_err().exit_code(), 7);
    assert_eq!(it.rows(&["osf", "get", "name"]).await.len(), 2);
    it.stop().await;
}

/// Old clients send UTC; people write what at(1) reads, on the clock of `api.timezone`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expiry_times_are_read_as_at_does() {
    let it = Installation::start("expirytimes").await;
    it.qa4(&["osf", "new", "name=office"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p"]).await.unwrap();
    it.qa4(&["vm", "new", "name=desk,user=ann,osf=office"]).await.unwrap();
    it.qa4(&["config", "set", "tenant_id=-1,key=api.timezone,value='<+05>-5'"]).await.unwrap();
    let set = async |time: serde_json::Value| {
        let request = json!({"action": "vm_update", "filters": {"id": 10000},
            "arguments": {"expiration_hard": time}});
        let answer = it.post("/api", &request).await.1;
        let vm = it.post("/api", &json!({"action": "vm_get_list", "fields": ["expiration_hard"]})).await.1;
        let vm = vm["rows"][0]["expiration_hard"].clone();
        (answer["failures"]["10000"]["status"].as_i64().or(answer["status"].as_i64()).unwrap(), vm)
    };
    for (time, expected) in [
        (json!("2040-01-31T14:05:00"), json!("2040-01-31T14:05:00")),
        (json!("2:05pm jan 31 2040"), json!("2040-01-31T09:05:00")),
        (json!("never"), json!(null)),
        (json!("2040-01-31T14:05Z"), json!("2040-01-31T14:05:00")),
        (json!(null), json!(null)),
    ] {
        assert_eq!(set(time.clone()).await, (0, expected), "{time}");
    }
    assert_eq!(set(json!("when it suits you")).await.0, 6330);
    it.stop().await;
}
