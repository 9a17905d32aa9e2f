//! The second factor of administrators: set up, asked for, taken once, and lost.

use qvd_cli::error::Error as CliError;
use serde_json::{Value, json};
use time::OffsetDateTime;
use totp_rs::{Builder, Secret};

use crate::{Installation, PASSWORD, code};

/// The code of a secret, so many steps from now.
fn code_at(secret: &str, steps: i64) -> String {
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
