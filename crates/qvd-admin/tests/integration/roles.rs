//! Roles: what they grant, from whom they inherit, and who holds them.

use serde_json::json;

use crate::{Installation, code};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_grant_inherit_and_are_held() {
    let it = Installation::start("rolesofours").await;
    it.qa4(&["role", "new", "name=helpdesk,description=d,tenant=default"]).await.unwrap();
    it.qa4(&["role", "new", "name=boss,tenant=default"]).await.unwrap();
    assert_eq!(code(it.qa4(&["role", "new", "name=boss,tenant=default"]).await), 7200);
    let can = async |noun: &str, who: &str, pattern: &str| -> Vec<String> {
        let rows = it.rows(&[noun, who, "can", pattern]).await;
        rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
    };
    it.qa4(&["role", "helpdesk", "assign", "acl", "user.see-main., vm.see-main."]).await.unwrap();
    assert_eq!(can("role", "helpdesk", "%").await, ["user.see-main.", "vm.see-main."]);
    it.qa4(&["role", "boss", "assign", "role", "helpdesk"]).await.unwrap();
    assert_eq!(can("role", "boss", "user%").await, ["user.see-main."]);
    // Taken away here only, and given back.
    it.qa4(&["role", "boss", "unassign", "acl", "user.see-main."]).await.unwrap();
    assert_eq!(can("role", "boss", "%").await, ["vm.see-main."]);
    let boss = &it.rows(&["role", "boss", "get", "acls,roles"]).await[0];
    assert_eq!(boss["acls"], json!({"positive": [], "negative": ["user.see-main."]}));
    assert_eq!(boss["roles"].as_object().unwrap().values().next().unwrap()["name"], "helpdesk");
    it.qa4(&["role", "boss", "assign", "acl", "user.see-main."]).await.unwrap();
    let acls = async || it.rows(&["role", "boss", "get", "acls"]).await[0]["acls"].clone();
    assert_eq!(acls().await, json!({"positive": [], "negative": []}));

    for (who, arguments, status) in [
        ("helpdesk", "role boss", 7350),
        ("boss", "role boss", 7350),
        ("boss", "role helpdesk", 7230),
        ("boss", "role nosuch", 6370),
        ("boss", "role 99999", 6370),
        ("boss", "acl nosuch", 6360),
        ("boss", "acl '1, user.see-main.'", 6360),
    ] {
        let line = format!("role {who} assign {}", arguments.replace('\'', ""));
        assert_eq!(code(it.qa4(&[line.as_str()]).await), status, "{line}");
    }
    // A refusal that nothing needs any more goes with the inheritance.
    it.qa4(&["role", "boss", "unassign", "acl", "user.see-main."]).await.unwrap();
    it.qa4(&["role", "boss", "unassign", "role", "helpdesk"]).await.unwrap();
    assert_eq!(acls().await, json!({"positive": [], "negative": []}));
    it.qa4(&["role", "boss", "assign", "acl", "vm.see-main."]).await.unwrap();
    it.qa4(&["role", "boss", "assign", "role", "helpdesk"]).await.unwrap();
    assert_eq!(acls().await["positive"], json!([]), "it is inherited now");

    it.qa4(&["admin", "new", "name=carl,password='open sesame',tenant=default"]).await.unwrap();
    it.qa4(&["admin", "carl", "assign", "role", "boss"]).await.unwrap();
    assert_eq!(code(it.qa4(&["admin", "carl", "assign", "role", "boss"]).await), 7230);
    assert_eq!(can("admin", "carl", "%").await, ["user.see-main.", "vm.see-main."]);
    let asked = it.post_as("carl", "default", json!({"action": "user_get_list"})).await;
    assert_eq!(asked["status"], 0, "{asked}");
    assert_eq!(code(it.qa4(&["role", "boss", "del"]).await), 7120);
    assert_eq!(code(it.qa4(&["role", "helpdesk", "del"]).await), 7120);
    it.qa4(&["admin", "carl", "unassign", "role", "boss"]).await.unwrap();
    let asked = it.post_as("carl", "default", json!({"action": "user_get_list"})).await;
    assert_eq!(asked["status"], 4210, "it lost the role: {asked}");
    it.qa4(&["role", "boss", "del"]).await.unwrap();
    it.qa4(&["role", "helpdesk", "del"]).await.unwrap();
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_reaches_above_itself() {
    let it = Installation::start("rolelimits").await;
    it.qa4(&["tenant", "new", "name=other"]).await.unwrap();
    it.qa4(&["role", "new", "name=theirs,tenant=other"]).await.unwrap();
    it.qa4(&["role", "new", "name=granter,tenant=default"]).await.unwrap();
    let acls = "role.see-main., role.create., role.update.assign-acl, role.update.assign-role, \
                role.see.acl-list, role.delete., user.see-main.";
    it.qa4(&["role", "granter", "assign", "acl", acls]).await.unwrap();
    it.qa4(&["admin", "new", "name=carl,password='open sesame',tenant=default"]).await.unwrap();
    it.qa4(&["admin", "carl", "assign", "role", "granter"]).await.unwrap();
    let call = async |request: serde_json::Value| it.post_as("carl", "default", request).await;

    let listed = call(json!({"action": "role_get_list", "fields": ["name"], "block": 0})).await;
    assert_eq!(listed["total"], 68, "the shipped ones and their own");
    assert!(!listed.to_string().contains("theirs"));
    let make = |acls: serde_json::Value| json!({"action": "role_create", "arguments": {"name": "mine", "__acls__": acls}});
    let refused = call(make(json!(["vm.see-main."]))).await;
    assert_eq!(refused["status"], 4230, "{refused}");
    let made = call(make(json!(["user.see-main."]))).await;
    assert_eq!(made["status"], 0, "{made}");
    let id = made["rows"][0]["id"].clone();
    let assign = |roles: serde_json::Value| {
        json!({"action": "role_update", "filters": {"id": id},
            "arguments": {"__roles_changes__": {"assign_roles": roles}}})
    };
    let root = it.rows(&["role", "name=Root", "get", "id"]).await[0]["id"].clone();
    let failure = call(assign(json!([root]))).await["failures"][id.to_string()]["status"].clone();
    assert_eq!(failure, 4230, "more than they have");
    let theirs = it.rows(&["role", "theirs", "get", "id"]).await[0]["id"].clone();
    let failure = call(assign(json!([theirs]))).await["failures"][id.to_string()]["status"].clone();
    assert_eq!(failure, 6370, "of another tenant");

    // Shipped roles stay as they are, for everybody.
    let delete = json!({"action": "role_delete", "filters": {"id": root}});
    assert_eq!(call(delete.clone()).await["status"], 1300);
    let above = it.post("/api", &delete).await.1;
    assert_eq!(above["failures"][root.to_string()]["status"], 4230, "{above}");
    assert_eq!(code(it.qa4(&["role", "name=Root", "set", "name=x"]).await), 4230);

    let lists = |filters: serde_json::Value| json!({"action": "get_acls_in_roles", "filters": filters});
    assert_eq!(call(lists(json!({}))).await["status"], 6220);
    assert_eq!(call(lists(json!({"role_id": [id, root]}))).await["status"], 6322);
    assert_eq!(call(lists(json!({"role_id": theirs}))).await["status"], 6370);
    let own = call(lists(json!({"role_id": [id], "operative": 1}))).await;
    assert_eq!((&own["total"], &own["rows"][0]["name"]), (&json!(1), &json!("user.see-main.")));
    let mine =
        call(json!({"action": "acl_get_list", "filters": {"operative": 1, "acl_name": {"~": "user%"}}}))
            .await;
    assert_eq!(mine["total"], 1, "{mine}");
    assert_eq!(mine["rows"][0]["roles"].as_object().unwrap().values().next().unwrap(), "granter");
    let hidden = call(json!({"action": "acl_get_list", "filters": {"name": {"~": "tenant.%"}}})).await;
    assert_eq!(hidden["total"], 0);
    let foreign = json!({"action": "acl_get_list", "filters": {"admin_id": 1}});
    assert_eq!(call(foreign).await["status"], 7110);
    it.stop().await;
}
