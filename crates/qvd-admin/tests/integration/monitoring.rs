//! Figures and health.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use qvd_runtime::postgres::TemporaryCluster;
use serde_json::json;

use crate::Installation;

/// The samples of an exposition by name with labels; each must belong to a family that was announced.
fn samples(text: &str) -> HashMap<String, f64> {
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut families = Vec::new();
    let mut samples = HashMap::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            families.push(family.split(' ').next().unwrap().to_owned());
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(families.iter().any(|family| name.starts_with(family.as_str())), "{line}");
            samples.insert(name.to_owned(), value.parse().unwrap());
        }
    }
    samples
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_are_for_those_above_tenants() {
    let it = Installation::start("metrics").await;
    it.running_host("node1", "10.3.15.1").await;
    it.qa4(&["osf", "new", "name=office,tenant=default"]).await.unwrap();
    it.qa4(&["user", "new", "name=ann,password=p,tenant=default"]).await.unwrap();
    for name in ["a", "b", "c"] {
        it.qa4(&["vm", "new", &format!("name={name},user=ann,osf=office")]).await.unwrap();
    }
    it.sql("UPDATE vm_runtimes SET vm_state = 'running', user_state = 'connected' WHERE vm_id = 10000").await;
    let nobody = it.ask("GET", "/metrics", &[("cookie", "sid=x")], b"").await;
    assert_eq!(nobody.problem(), (401, 3200));
    let sid = it.log_in("admin", "default").await;
    let tenant = it.ask("GET", "/metrics", &[("cookie", &format!("sid={sid}"))], b"").await;
    assert_eq!(tenant.problem(), (403, 4210));
    // As Prometheus is set up: with a token of a super-administrator that only reads the figures.
    let sid = it.log_in("superadmin", "*").await;
    let made = json!({"name": "prometheus", "scope": "vm.stats.*", "read_only": true, "expiration": "never"});
    let made = it.v2(Some(&sid), "POST", "/tokens", Some(made)).await;
    let shown = format!("Bearer {}", made.body["token"].as_str().unwrap());
    let read = async || {
        let answer = it.ask("GET", "/metrics", &[("authorization", &shown)], b"").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
        samples(answer.body.as_str().unwrap())
    };
    let before = read().await;
    assert_eq!(before["qvd_vms{state=\"running\"}"], 1.0);
    assert_eq!(before["qvd_vms{state=\"stopped\"}"], 2.0);
    assert_eq!(before["qvd_sessions{state=\"connected\"}"], 1.0);
    assert_eq!(before["qvd_hosts{state=\"running\"}"], 1.0);
    assert_eq!(before["qvd_logins{state=\"token\"}"], 1.0);
    assert!(before["qvd_api_database_connections{state=\"open\"}"] >= 1.0);
    let requests = "qvd_api_requests_total{dialect=\"v2\",method=\"GET\",status=\"404\"}";
    let measured = "qvd_api_request_seconds_count{dialect=\"v2\",method=\"GET\"}";
    let known = |samples: &HashMap<String, f64>, name: &str| samples.get(name).copied().unwrap_or_default();
    for _ in 0..3 {
        assert_eq!(it.v2(None, "GET", "/vms/77", None).await.status, 404);
    }
    let after = read().await;
    assert_eq!(known(&after, requests) - known(&before, requests), 3.0);
    assert_eq!(known(&after, measured) - known(&before, measured), 3.0);
    let slowest = "qvd_api_request_seconds_bucket{le=\"+Inf\",dialect=\"v2\",method=\"GET\"}";
    assert_eq!(after[slowest], after[measured]);
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_follows_the_database() {
    let cluster = Arc::new(TemporaryCluster::start().unwrap());
    let it = Installation::on(cluster.clone(), "health").await;
    let ask = async |path: &str| it.ask("GET", path, &[("cookie", "sid=x")], b"").await;
    // The listener may still be on its way.
    let ready = async |expected: u16| {
        for _ in 0..200 {
            let answer = ask("/readyz").await;
            if answer.status == expected {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("never {expected}");
    };
    assert_eq!(ready(200).await.body, json!({"ready": true, "reason": null}));
    cluster.stop().unwrap();
    assert_eq!(ready(503).await.body["ready"], false);
    assert_eq!(ask("/healthz").await.status, 200);
    it.stop().await;
}
