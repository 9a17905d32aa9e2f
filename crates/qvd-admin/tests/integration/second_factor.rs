//! The second factor of administrators: set up, asked for, taken once, and lost.

use qvd_cli::error::Error as CliError;
use serde_json::{Value, json};
use time::OffsetDateTime;
use totp_rs::{Builder, Secret};

use crate::{Installation, PASSWORD, code};

/// The code of a secret, so many steps from now.
pub fn code_at(secret: &str, steps: i64) -> String {
    let totp = Builder::new().with_secret(Secret::try_from_base32(secret).unwrap()).build().unwrap();
    let time = OffsetDateTime::now_utc().unix_timestamp() + 30 * steps;
    totp.generate(u64::try_from(time).unwrap()).to_string()
}

async fn log_in(it: &Installation, password: &str, code: Option<&str>) -> Value {
    let mut body =
        json!({"action": "current_admin_setup", "login": "admin", "tenant": "default", "password": password});
    if let Some(code) = code {
        body["code"] = json!(code);
    }
    it.post("/api", &body).await.1
}

async fn ask(it: &Installation, sid: &Value, action: &str, code: Option<&str>) -> Value {
    let mut body = json!({"action": format!("second_factor_{action}"), "sid": sid});
    if let Some(code) = code {
        body["code"] = json!(code);
    }
    it.post("/api/second_factor", &body).await.1
}

/// A second factor of `admin`.
struct Factor {
    secret: String,
    /// The code that confirmed it.
    used: String,
    recovery: Vec<String>,
    /// The session that set it up.
    sid: Value,
}

async fn set_up(it: &Installation) -> Factor {
    let sid = log_in(it, PASSWORD, None).await["sid"].clone();
    let begun = ask(it, &sid, "begin", None).await;
    let secret = begun["secret"].as_str().unwrap_or_else(|| panic!("{begun}")).to_owned();
    let uri = format!("otpauth://totp/QVD:admin%40default?secret={secret}&issuer=QVD");
    assert_eq!(begun["uri"], uri);
    let used = code_at(&secret, 0);
    let confirmed = ask(it, &sid, "confirm", Some(&used)).await;
    let codes = confirmed["recovery_codes"].as_array().unwrap_or_else(|| panic!("{confirmed}"));
    let recovery = codes.iter().map(|code| code.as_str().unwrap().to_owned()).collect();
    Factor { secret, used, recovery, sid }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_takes_password_and_code_and_each_code_once() {
    let it = Installation::start("factor").await;
    let other = log_in(&it, PASSWORD, None).await["sid"].clone();
    let first = log_in(&it, PASSWORD, None).await["sid"].clone();
    assert_eq!(ask(&it, &first, "confirm", Some("123456")).await["status"], 1300, "nothing to confirm");
    assert_eq!(ask(&it, &first, "begin", None).await["status"], 0);
    assert_eq!(ask(&it, &first, "confirm", None).await["status"], 6240);
    assert_eq!(ask(&it, &first, "confirm", Some("a")).await["status"], 6330);
    assert!(log_in(&it, PASSWORD, None).await["sid"].is_string(), "not in force before it is confirmed");

    let Factor { secret, used, recovery: codes, sid } = set_up(&it).await;
    assert_eq!(codes.len(), 10);
    assert_eq!(ask(&it, &sid, "begin", None).await["status"], 7200);
    let list = async |sid: &Value| {
        it.post("/api", &json!({"action": "user_get_list", "sid": sid})).await.1["status"].clone()
    };
    assert_eq!((list(&sid).await, list(&other).await), (json!(0), json!(3200)), "opened without a code");

    assert_eq!(log_in(&it, PASSWORD, None).await["status"], 9009);
    assert_eq!(log_in(&it, "wrong", None).await["status"], 3200, "nobody learns of it without the password");
    assert_eq!(log_in(&it, PASSWORD, Some(&used)).await["status"], 3200, "taken when it was set up");
    let next = code_at(&secret, 1);
    assert!(log_in(&it, PASSWORD, Some(&next)).await["sid"].is_string());
    assert_eq!(log_in(&it, PASSWORD, Some(&next)).await["status"], 3200, "taken twice");

    // Old clients send the code behind the password; here one for emergencies.
    let both = format!("{PASSWORD}{}", codes[0]);
    assert!(log_in(&it, &both, None).await["sid"].is_string());
    assert_eq!(log_in(&it, &both, None).await["status"], 3200, "taken twice");
    let see = ask(&it, &sid, "see", None).await;
    assert_eq!((&see["confirmed"], &see["recovery_codes_left"]), (&json!(1), &json!(9)));
    assert!(log_in(&it, PASSWORD, Some(&codes[1].to_ascii_uppercase())).await["sid"].is_string());

    // In the database the secret is sealed, and codes are digests.
    let client = it.database().client().await.unwrap();
    let kept = "SELECT secret, recovery::text FROM second_factors";
    let row = client.query_one(kept, &[]).await.unwrap();
    let (stored, recovery): (String, String) = (row.get(0), row.get(1));
    assert!(
        stored.starts_with(qvd_db::vault::PREFIX) && recovery.matches("sha256:").count() == 8,
        "{recovery}"
    );
    let log = "SELECT string_agg(action || ' ' || status || coalesce(before || after, ''), ', ' ORDER BY id), \
        string_agg(log::text, ' ') FROM log WHERE action LIKE 'second_factor_%'";
    let row = client.query_one(log, &[]).await.unwrap();
    let (told, all): (String, String) = (row.get(0), row.get(1));
    let change = r#"second_factor_confirm 0{"second_factor":false}{"second_factor":true}"#;
    assert!(told.contains(change) && !all.contains(&secret) && !all.contains(&codes[2]), "{told}");

    assert_eq!(ask(&it, &sid, "end", Some("000000")).await["status"], 6330);
    assert_eq!(ask(&it, &sid, "end", Some(&codes[2])).await["status"], 0);
    assert!(log_in(&it, PASSWORD, None).await["sid"].is_string());
    assert_eq!(log_in(&it, &format!("{PASSWORD}123456"), None).await["status"], 3200, "a code too many");
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qa4_sends_a_code_and_root_takes_a_lost_factor_away() {
    let it = Installation::start("factorlost").await;
    let Factor { recovery: codes, sid, .. } = set_up(&it).await;
    let url = format!("https://localhost:{}/", it.address.port());
    let ca = it.path("cert.pem").display().to_string();
    let environment = |code: &str| {
        [
            ("QVD_URL", url.clone()),
            ("QVD_CA", ca.clone()),
            ("QVD_LOGIN", "admin".to_owned()),
            ("QVD_TENANT", "default".to_owned()),
            ("QVD_PASSWORD", PASSWORD.to_owned()),
            ("QVD_CODE", code.to_owned()),
        ]
    };
    let run = async |code: &str, arguments: &[&str]| {
        let environment = environment(code);
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        it.run(&environment, arguments).await
    };
    // Nobody is there to be asked.
    let asked = run("", &["totp"]).await.unwrap_err();
    assert!(matches!(&asked, CliError::Usage(why) if why.contains("no terminal")), "{asked}");
    let told = run(&codes[0], &["totp"]).await.unwrap();
    assert_eq!(told, "logins need a code; 9 recovery codes are left\n");

    // Not everybody may take that of others away.
    it.qa4(&["admin", "new", "name=bob,password='open sesame',tenant=default"]).await.unwrap();
    let bob = it.post_as("bob", "default", json!({"action": "current_admin_setup"})).await["sid"].clone();
    let reset = json!({"action": "second_factor_reset", "sid": bob, "id": 2});
    assert_eq!(it.post("/api/second_factor", &reset).await.1["status"], 4210);
    let root = json!({"action": "second_factor_begin"});
    assert_eq!(it.post("/api/second_factor", &root).await.1["status"], 1300, "root has no login");
    assert_eq!(it.post("/api/second_factor", &json!({"action": "x", "sid": sid})).await.1["status"], 4100);
    let told = it.qa4(&["totp", "reset", "admin"]).await.unwrap();
    assert_eq!(told, "logins of admin need no code any more\n");
    assert!(log_in(&it, PASSWORD, None).await["sid"].is_string());
    assert_eq!(code(it.qa4(&["totp", "reset", "admin"]).await), 1300);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_have_second_factors_too() {
    let it = Installation::start("factorv2").await;
    let sid = it.log_in("admin", "default").await;
    let ask = async |method: &str, path: &str, body: Option<Value>| {
        it.v2(Some(&sid), method, &format!("/me/second-factor{path}"), body).await
    };
    let none = json!({"confirmed": 0, "recovery_codes_left": 0});
    assert_eq!(ask("GET", "", None).await.body, none);
    assert_eq!(ask("POST", "/confirm", Some(json!({"code": "123456"}))).await.problem(), (404, 1300));
    assert_eq!(ask("POST", "/end", Some(json!({"code": "123456"}))).await.problem(), (404, 1300));
    let begun = ask("POST", "/begin", None).await;
    assert_eq!(begun.status, 200, "{begun:?}");
    let secret = begun.body["secret"].as_str().unwrap().to_owned();
    for (body, problem) in [
        (json!({}), (400, 6240)),
        (json!({"code": null}), (400, 6240)),
        (json!({"code": "12"}), (422, 6330)),
        (json!({"code": [1]}), (422, 6330)),
        (json!({"code": "123456", "x": 1}), (400, 6230)),
    ] {
        assert_eq!(ask("POST", "/confirm", Some(body.clone())).await.problem(), problem, "{body}");
    }
    let confirmed = ask("POST", "/confirm", Some(json!({"code": code_at(&secret, 0)}))).await;
    let codes = confirmed.body["recovery_codes"].as_array().unwrap_or_else(|| panic!("{confirmed:?}"));
    assert_eq!(codes.len(), 10);
    assert_eq!(ask("POST", "/begin", None).await.problem(), (409, 7200));

    let open = async |code: Option<&Value>| {
        let mut who = json!({"login": "admin", "tenant": "default", "password": PASSWORD});
        if let Some(code) = code {
            who["code"] = code.clone();
        }
        it.v2(None, "POST", "/session", Some(who)).await
    };
    assert_eq!(open(None).await.problem(), (401, 9009));
    assert_eq!(open(Some(&json!("000000"))).await.problem(), (401, 3200));
    let code = json!(code_at(&secret, 1));
    assert_eq!(open(Some(&code)).await.status, 201);
    assert_eq!(open(Some(&codes[0])).await.status, 201);
    let left = json!({"confirmed": 1, "recovery_codes_left": 9});
    assert_eq!(ask("GET", "", None).await.body, left);
    assert_eq!(ask("POST", "/end", Some(json!({"code": code}))).await.problem(), (422, 6330), "taken before");
    // Tokens read it and change nothing of it.
    let lasting = json!({"name": "t", "expiration": "2040-01-01", "manages_tokens": true});
    let token = it.v2(Some(&sid), "POST", "/tokens", Some(lasting)).await.body["token"].clone();
    let by_token = async |method: &str, path: &str, body| {
        it.with_token(token.as_str().unwrap(), method, path, body).await
    };
    assert_eq!(by_token("GET", "/me/second-factor", None).await.body, left);
    let end = Some(json!({"code": codes[1]}));
    assert_eq!(by_token("POST", "/me/second-factor/end", end.clone()).await.problem(), (403, 4210));
    assert_eq!(by_token("POST", "/administrators/2/reset-second-factor", None).await.problem(), (403, 4210));
    assert_eq!(ask("POST", "/end", end).await.status, 204);
    assert_eq!(ask("GET", "", None).await.body, none);
    // Neither secrets nor codes are in the log.
    let client = it.database().client().await.unwrap();
    let all =
        "SELECT string_agg(log::text, ' ') || (SELECT string_agg(events::text, ' ') FROM events) FROM log";
    let all: String = client.query_one(all, &[]).await.unwrap().get(0);
    let told = [&secret, code.as_str().unwrap(), codes[0].as_str().unwrap(), codes[1].as_str().unwrap()];
    assert!(told.iter().all(|secret| !all.contains(*secret)), "{all}");
    assert!(all.contains("second_factor_end") && all.contains("logins need no code any more"));
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sets_passwords_takes_a_lost_factor_away_and_it_is_in_the_log() {
    let it = Installation::start("factorreset").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    for (name, tenant) in [("bob", "default"), ("boss", "other")] {
        let new = format!("name={name},password='{PASSWORD}',tenant={tenant}");
        it.qa4(&["admin", "new", &new]).await.unwrap();
    }
    it.qa4(&["admin", "boss", "assign", "role", "Root"]).await.unwrap();
    let (bob, boss) = (it.log_in("bob", "default").await, it.log_in("boss", "other").await);
    let begun = it.v2(Some(&bob), "POST", "/me/second-factor/begin", None).await;
    let code = json!({"code": code_at(begun.body["secret"].as_str().unwrap(), 0)});
    let confirmed = it.v2(Some(&bob), "POST", "/me/second-factor/confirm", Some(code)).await;
    assert_eq!(confirmed.status, 200, "{confirmed:?}");
    let id = it.rows(&["admin", "bob", "get", "id"]).await[0]["id"].clone();
    let admin = it.log_in("admin", "default").await;
    let reset = async |sid: &str| {
        it.v2(Some(sid), "POST", &format!("/administrators/{id}/reset-second-factor"), None).await
    };
    let factors = async || {
        let client = it.database().client().await.unwrap();
        client.query_one("SELECT count(*) FROM second_factors", &[]).await.unwrap().get::<_, i64>(0)
    };
    assert_eq!(reset(&bob).await.problem(), (403, 4210), "without the permission");
    assert_eq!(reset(&boss).await.problem(), (404, 1300), "of another tenant");
    // No change without its row in the log.
    it.sql("ALTER TABLE log ADD CONSTRAINT closed CHECK (action <> 'second_factor_reset' OR status <> 0)")
        .await;
    assert_eq!(reset(&admin).await.status, 500);
    assert_eq!(factors().await, 1);
    it.sql("ALTER TABLE log DROP CONSTRAINT closed").await;
    assert_eq!(reset(&admin).await.status, 204);
    assert_eq!(factors().await, 0);
    assert_eq!(reset(&admin).await.problem(), (404, 1300));
    it.log_in("bob", "default").await;
    let log = "/log?action=second_factor_reset&status=0&fields=admin_name,object_name,before,after";
    let expected = json!({"admin_name": "admin", "object_name": "bob",
        "before": "{\"second_factor\":true}", "after": "{\"second_factor\":false}"});
    let log = it.v2(None, "GET", log, None).await;
    assert_eq!(log.items().len(), 1, "{log:?}");
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(log.items()[0].get(member).unwrap_or(&Value::Null), value, "{log:?}");
    }
    it.stop().await;
}
