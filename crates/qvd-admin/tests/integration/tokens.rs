//! Tokens: programs that are known without a login.

use serde_json::{Value, json};

use crate::{Installation, PASSWORD};

/// Makes a token with a session; what else it is stands in `with`.
async fn token(it: &Installation, sid: &str, name: &str, with: Value) -> (i64, String) {
    let mut body = json!({"name": name, "expiration": "2040-01-01"});
    for (member, value) in with.as_object().unwrap() {
        body[member] = value.clone();
    }
    let made = it.v2(Some(sid), "POST", "/tokens", Some(body)).await;
    assert_eq!(made.status, 201, "{made:?}");
    (made.body["id"].as_i64().unwrap(), made.body["token"].as_str().unwrap().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_a_part_of_its_administrator() {
    let it = Installation::start("tokens").await;
    let sid = it.log_in("admin", "default").await;
    let (id, secret) = token(&it, &sid, "ci", json!({"scope": "vm.*, osf.see-main."})).await;
    assert!(secret.starts_with("qvd_") && secret.len() == 47, "{secret}");
    // Shown once: neither rows nor records hold it.
    let held = "SELECT count(*) FROM (SELECT t::text FROM api_tokens AS t UNION ALL SELECT l::text FROM log AS l \
                UNION ALL SELECT s::text FROM session AS s) AS x (row) WHERE position($1 IN row) > 0";
    let client = it.database().client().await.unwrap();
    assert_eq!(client.query_one(held, &[&&secret[4..]]).await.unwrap().get::<_, i64>(0), 0);

    assert_eq!(it.with_token(&secret, "GET", "/vms", None).await.status, 200);
    assert_eq!(it.with_token(&secret, "GET", "/users", None).await.problem(), (403, 4210));
    let me = it.with_token(&secret, "GET", "/me", None).await;
    assert_eq!(me.body["admin_name"], "admin");
    assert!(me.body["acls"].as_array().unwrap().iter().all(|acl| {
        let acl = acl.as_str().unwrap();
        acl.starts_with("vm.") || acl == "osf.see-main."
    }));
    assert_eq!(me.header("set-cookie"), None);
    // The older dialect knows it too.
    let shown = format!("Bearer {secret}");
    let headers = [("authorization", shown.as_str()), ("content-type", "application/json")];
    let old = it.ask("POST", "/api", &headers, br#"{"action":"vm_get_list"}"#).await;
    assert_eq!(old.body["status"], 0, "{old:?}");
    // What it does stands in the log under its name.
    assert_eq!(it.with_token(&secret, "DELETE", "/vms/77", None).await.problem(), (404, 1300));
    let log = it.v2(None, "GET", "/log?action=user_get_list&fields=source,admin_name,status", None).await;
    assert_eq!(log.items().last().unwrap()["admin_name"], "admin", "{log:?}");
    let log = it.v2(None, "GET", "/log?action=token_create&fields=object_name,status,admin_name", None).await;
    assert_eq!(log.items(), [json!({"object_name": "ci", "status": 0, "admin_name": "admin"})]);

    let own = it.v2(Some(&sid), "GET", "/tokens", None).await;
    let [row] = own.items() else { panic!("{own:?}") };
    assert_eq!((&row["id"], &row["read_only"]), (&json!(id), &json!(0)));
    assert!(row["last_used"].is_string() && row.get("token").is_none() && row.get("digest").is_none());
    // What its administrator loses it loses.
    it.sql("DELETE FROM role_administrator_relations WHERE administrator_id = 2").await;
    assert_eq!(it.with_token(&secret, "GET", "/vms", None).await.problem(), (403, 4210));
    // Revoked, it is nobody's; at every process.
    let other = it.beside().await;
    assert_eq!(other.with_token(&secret, "GET", "/me", None).await.status, 200);
    assert_eq!(it.v2(Some(&sid), "DELETE", &format!("/tokens/{id}"), None).await.status, 204);
    for process in [&it, &other] {
        assert_eq!(process.with_token(&secret, "GET", "/me", None).await.problem(), (401, 3200));
    }
    other.stop().await;
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_does_not_become_more() {
    let it = Installation::start("tokenlimits").await;
    let sid = it.log_in("admin", "default").await;
    let (_, reading) = token(&it, &sid, "reading", json!({"read_only": true})).await;
    assert_eq!(it.with_token(&reading, "GET", "/users", None).await.status, 200);
    let user = json!({"name": "ann", "password": "p"});
    assert_eq!(it.with_token(&reading, "POST", "/users", Some(user.clone())).await.problem(), (403, 4210));
    assert_eq!(
        it.with_token(&reading, "PATCH", "/me", Some(json!({"block": 5}))).await.problem(),
        (403, 4210)
    );

    let (_, plain) = token(&it, &sid, "plain", json!({})).await;
    assert_eq!(it.with_token(&plain, "POST", "/users", Some(user)).await.status, 201);
    let child = json!({"name": "child", "expiration": "2030-01-01"});
    assert_eq!(it.with_token(&plain, "POST", "/tokens", Some(child.clone())).await.problem(), (403, 4210));
    assert_eq!(it.with_token(&plain, "DELETE", "/tokens/1", None).await.problem(), (403, 4210));
    for path in ["/me", "/administrators/2"] {
        let login = it.with_token(&plain, "PATCH", path, Some(json!({"password": "x"}))).await;
        assert_eq!(login.problem(), (403, 4230), "{path}");
    }
    let (_, limited) = token(&it, &sid, "limited", json!({"scope": "user.*", "manages_tokens": true})).await;
    assert_eq!(
        it.with_token(&limited, "PATCH", "/me", Some(json!({"block": 5}))).await.problem(),
        (403, 4210)
    );
    let made = it.with_token(&limited, "POST", "/tokens", Some(child)).await;
    assert_eq!(made.status, 201, "{made:?}");
    let child = made.body["token"].as_str().unwrap();
    assert_eq!(it.with_token(child, "GET", "/users", None).await.status, 200);
    assert_eq!(it.with_token(child, "GET", "/hosts", None).await.problem(), (403, 4210));
    let ask = async |body: Value| it.with_token(&limited, "POST", "/tokens", Some(body)).await.problem();
    assert_eq!(ask(json!({"name": "x", "expiration": "2041-01-01"})).await, (422, 6330));
    assert_eq!(ask(json!({"name": "x", "expiration": "never"})).await, (422, 6330));
    assert_eq!(ask(json!({"name": "x", "expiration": "2030-01-01", "scope": "vm.*"})).await, (422, 6360));
    assert_eq!(ask(json!({"name": "x"})).await, (400, 6240));
    assert_eq!(ask(json!({"name": "limited", "expiration": "2030-01-01"})).await, (409, 7200));

    it.sql("UPDATE api_tokens SET expiration = now() AT TIME ZONE 'UTC' WHERE name = 'plain'").await;
    assert_eq!(it.with_token(&plain, "GET", "/me", None).await.problem(), (401, 3300));
    assert_eq!(it.with_token("qvd_nothing", "GET", "/me", None).await.problem(), (401, 3200));
    // Root is not an administrator, so it has no tokens; but it sees and revokes those of all.
    let root = json!({"name": "x", "expiration": "never"});
    assert_eq!(it.v2(None, "POST", "/tokens", Some(root)).await.problem(), (403, 4210));
    assert_eq!(it.v2(None, "GET", "/tokens", None).await.items().len(), 4);
    // Another tenant's administrators do not see them, and those of the own one only who may take passwords away.
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    it.qa4(&["admin", "new", &format!("name=boss,password='{PASSWORD}',tenant=other")]).await.unwrap();
    it.qa4(&["admin", "new", &format!("name=bob,password='{PASSWORD}',tenant=default")]).await.unwrap();
    for (login, tenant) in [("boss", "other"), ("bob", "default")] {
        let sid = it.log_in(login, tenant).await;
        assert!(it.v2(Some(&sid), "GET", "/tokens", None).await.items().is_empty(), "{login}");
        assert_eq!(it.v2(Some(&sid), "DELETE", "/tokens/1", None).await.problem(), (404, 1300), "{login}");
    }
    // Whoever knew the old password is out, with what it made.
    let changed = json!({"password": "another one"});
    assert_eq!(it.v2(Some(&sid), "PATCH", "/me", Some(changed)).await.status, 204);
    for secret in [reading.as_str(), &limited, child] {
        assert_eq!(it.with_token(secret, "GET", "/me", None).await.problem(), (401, 3200));
    }
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_on_the_command_line() {
    let it = Installation::start("tokenqa4").await;
    let qa4 = async |arguments: &[&str]| it.qa4_as("admin", "default", arguments).await.unwrap();
    let made =
        qa4(&["token", "new", "name=backup, scope='vm.see-main.', read_only=1, expiration=2031-01-01"]).await;
    let secret =
        made.split_whitespace().find(|word| word.starts_with("qvd_")).unwrap_or_else(|| panic!("{made}"));
    assert_eq!(it.with_token(secret, "GET", "/vms", None).await.status, 200);
    let listed = qa4(&["token", "get"]).await;
    assert!(
        listed.contains("backup") && listed.contains("vm.see-main.") && !listed.contains("qvd_"),
        "{listed}"
    );
    qa4(&["token", "name=backup", "del"]).await;
    assert_eq!(it.with_token(secret, "GET", "/vms", None).await.problem(), (401, 3200));
    it.stop().await;
}
