//! Every `qa4` example of the manual, in an order in which what it needs is there, with the result that
//! `spec/cli.md` 3 requires; the numbers are those of its table.

use crate::installation::{Installation, image_file};
use crate::{Program, Run};

/// What a command must give.
enum Gives {
    /// Exit 0 and this last line.
    Total(u64),
    /// Exit 0 and this number of the new object.
    Id(i64),
    /// Exit 0 and these parts.
    Shows(&'static [&'static str]),
    /// This exit code, and these parts of the complaint.
    Fails(i32, &'static [&'static str]),
}

use Gives::{Fails, Id, Shows, Total};

/// Rows of the table, the arguments as the Unix shell passes them on, and what they must give.
type Row = (&'static [u8], &'static [&'static str], Gives);

fn check(program: &Program, (numbers, arguments, gives): &Row) {
    let run = program.run(arguments);
    let Run { exit, out, err } = &run;
    let what = format!("rows {numbers:?}: {arguments:?}: {run:#?}");
    match gives {
        Total(total) => {
            assert_eq!(*exit, 0, "{what}");
            assert!(out.ends_with(&format!("Total: {total}\n")), "{what}");
        }
        Id(id) => {
            assert_eq!(*exit, 0, "{what}");
            let width = id.to_string().len().max(2);
            let expected = format!("| {id:>width$} |\n'{}'\nTotal: 1\n", "-".repeat(width + 2));
            assert!(out.ends_with(&expected), "{what}");
        }
        Shows(parts) => {
            assert_eq!(*exit, 0, "{what}");
            assert!(parts.iter().all(|part| out.contains(part)), "{what}");
        }
        Fails(code, parts) => {
            assert_eq!(exit, code, "{what}");
            assert_eq!(out, "", "{what}");
            assert!(err.starts_with("qa4: "), "{what}");
            assert!(parts.iter().all(|part| err.contains(part)), "{what}");
        }
    }
}

const SETTINGS: &[Row] = &[
    (&[1], &["config", "set", "tenant_id=-1,key=vm.network.ip.start,value=10.3.15.50"], Total(1)),
    (&[2], &["config", "set", "tenant_id=-1,key=vm.network.netmask,value=24"], Total(1)),
    (&[3], &["config", "set", "tenant_id=-1,key=vm.network.gateway,value=10.3.15.1"], Total(1)),
    (&[4], &["config", "set", "tenant_id=-1,key=vm.network.dns_server,value=10.3.15.254"], Total(1)),
    (&[5], &["config", "set", "tenant_id=-1,key=vm.network.bridge,value=qvdnet0"], Total(1)),
    (
        &[0],
        &["config", "key~vm.network.%", "get", "key,", "value", "--format", "CSV"],
        Shows(&[
            "vm.network.ip.start;10.3.15.50\n",
            "vm.network.netmask;24\n",
            "vm.network.gateway;10.3.15.1\n",
            "vm.network.dns_server;10.3.15.254\n",
            "vm.network.bridge;qvdnet0\n",
        ]),
    ),
    (&[6], &["usage"], Shows(&["qa4 [options] OBJECT [SELECTION] ACTION [ARGUMENTS]", "virtual machines"])),
    (&[7], &["usage", "vm"], Shows(&["vm [SELECTION] set property KEY=VALUE", "del property", "disconnect"])),
    (&[22], &["config", "set", "tenant_id=-1,key=myproperty,value=this is a value"], Total(1)),
    (&[0], &["config", "myproperty", "get", "value", "-o", "name"], Shows(&["this is a value\n"])),
    (&[23], &["config", "get"], Shows(&["| vm.network.ip.start", "| key ", "| is_default |"])),
    (&[0], &["config", "set", "tenant_id=-1,key=qvd.prop,value=1"], Total(1)),
    (&[24], &["config", "set", "tenant_id=-1,key=qvd.prop", "default"], Total(1)),
    (&[24], &["config", "tenant_id=-1,key=qvd.prop", "default"], Fails(6, &["1300"])),
    (&[47], &["config", "set", "tenant_id=-1,key=vm.hypervisor,value=lxc"], Total(1)),
    (&[54], &["config", "set", "key", "tenant_id=-1,=l7r.auth.mode,value=ldap"], Total(1)),
    (&[55], &["config", "set", "key", "tenant_id=-1,=auth.ldap.host,value=ldap://example.com:389"], Total(1)),
    (&[56], &["config", "set", "key", "tenant_id=-1,=auth.ldap.base,value=dc=example,dc=com"], Total(1)),
    (&[57], &["config", "set", "key", "tenant_id=-1,=auth.ldap.scope,value=sub"], Total(1)),
    (&[58], &["config", "set", "key", "tenant_id=-1,=auth.ldap.filter,value=(|(uid =%u)(cn=%u))"], Total(1)),
    (
        &[0],
        &["config", "key~auth.ldap.%", "get", "key, value", "--format=csv"],
        Shows(&[
            "auth.ldap.host;ldap://example.com:389\n",
            "auth.ldap.base;dc=example,dc=com\n",
            "auth.ldap.filter;(|(uid =%u)(cn=%u))\n",
        ]),
    ),
    (
        &[59],
        &[
            "config",
            "set",
            "tenant_id=-1,key=auth.ldap.filter,value=(&(objectClass=person)(sAMAccountName=%u))",
        ],
        Total(1),
    ),
    (&[60], &["config", "set", "key", "tenant_id=-1,=l7r.auth.plugins,value=auto,ldap"], Total(1)),
    (&[61], &["config", "set", "key", "tenant_id=-1,=auth.auto.osf_id,value=1"], Total(1)),
    (&[62], &["config", "set", "key", "tenant_id=-1,=auth.auto.di_tag,value=prueba"], Total(1)),
    (
        &[63],
        &["config", "set", "key", "tenant_id=-1,=l7r.loadbalancer.plugin.default.weight.cpu,value=3"],
        Total(1),
    ),
    (
        &[64],
        &["config", "set", "key", "tenant_id=-1,=l7r.loadbalancer.plugin.default.weight.ram,value=2"],
        Total(1),
    ),
    (
        &[65],
        &["config", "set", "key", "tenant_id=-1,=l7r.loadbalancer.plugin.default.weight.random,value=1"],
        Total(1),
    ),
    (
        &[0],
        &["config", "key~l7r.%", "get", "key, value", "-f", "CSV"],
        Shows(&["l7r.auth.plugins;auto,ldap\n", "l7r.loadbalancer.plugin.default.weight.cpu;3\n"]),
    ),
    // Else nobody of these tests could log in.
    (&[0], &["config", "key=l7r.auth.plugins", "default"], Total(1)),
];

const OBJECTS: &[Row] = &[
    (&[25], &["host", "new", "name=myhost,", "address=10.3.15.1"], Id(10000)),
    (&[26], &["host", "name=myhost", "del"], Total(1)),
    (&[27], &["osf", "new", "name=myOSF"], Id(1)),
    (
        &[28],
        &["osf", "get", "name,", "memory,", "overlay,", "user_storage", "-f", "CSV"],
        Shows(&["myOSF;256;1;"]),
    ),
    (&[48], &["osf", "new", "name=MyOSF"], Id(2)),
    (&[0], &["osf", "new", "name=retest"], Id(3)),
    (&[0], &["osf", "new", "name=myosf"], Id(4)),
    (&[33], &["user", "new", "login=peter,password=s3cr3t"], Id(1)),
    (&[0], &["user", "new", "name=guest3,password=x"], Id(2)),
    (&[34], &["user", "login=guest3", "del"], Total(1)),
    (&[35], &["user", "get"], Shows(&["| peter |", "Total: 1\n"])),
    (&[0], &["user", "new", "name=guest,password=x"], Id(3)),
    (&[36], &["user", "name=guest", "set", "passwd=newpassword"], Total(1)),
    (&[50], &["user", "new", "name=test,password=test"], Id(4)),
    (&[0], &["user", "new", "name=myuser,password=x"], Id(5)),
    (&[0], &["user", "new", "name=juan,password=x"], Id(6)),
    (&[0], &["user", "new", "name=qvd01,password=x"], Id(7)),
    (&[37], &["vm", "new", "name=GuestVM,user_id=1", "osf_id=1"], Id(1)),
    (&[38], &["vm", "new", "name=GuestVM2,user=peter,osf=myOFS"], Fails(6, &["did you mean `myOSF`?"])),
    (&[38], &["vm", "new", "name=GuestVM2,user=peter,osf=myOSF"], Id(2)),
    (&[8], &["vm", "new", "name=myvm,", "user=myuser,", "osf=myosf"], Id(3)),
    (&[0], &["vm", "new", "name=myVM,", "user=myuser,", "osf=myosf"], Id(4)),
];

const IMAGES: &[Row] = &[
    (&[29], &["di", "new", "disk_image=test-image.tar.gz,", "osf=retest"], Id(1000)),
    (&[0], &["di", "new", "disk_image=mydi,", "osf=myosf"], Id(1001)),
    (&[30], &["di", "get"], Shows(&["| 1000-test-image.tar.gz |", "| published |"])),
    (&[31], &["di", "osf=myosf", "tag", "tag1,tag2"], Total(1)),
    (&[31], &["di", "disk_image=mydi", "tag", "default,", "head,", "mytag"], Total(1)),
    (
        &[0],
        &["di", "mydi", "get", "tags", "-o", "list"],
        Shows(&["default", "head", "mytag", "tag1", "tag2"]),
    ),
];

const MACHINES: &[Row] = &[
    (&[51], &["vm", "new", "name=TestVM,user=test,osf=MyOSF"], Id(5)),
    (&[52], &["vm", "name=TestVM", "start"], Total(1)),
    (&[53], &["vm", "name=TestVM", "get", "ip", "-o", "name"], Shows(&["10.3.15."])),
    (&[9], &["vm", "get"], Shows(&["| myvm ", "Total: 5\n"])),
    (&[9], &["vm", "name=myvm", "get"], Shows(&["| myvm ", "Total: 1\n"])),
    (&[9], &["vm", "name=myvm", "get", "name,", "id,", "ip"], Shows(&["| name | id | ip "])),
    (
        &[10],
        &["vm", "get", "order", "name", "-o", "name"],
        Shows(&["GuestVM\nGuestVM2\nTestVM\nmyVM\nmyvm\n"]),
    ),
    (
        &[10],
        &["vm", "get", "order", "asc", "name,", "id", "-o", "name"],
        Shows(&["GuestVM\nGuestVM2\nTestVM\n"]),
    ),
    (
        &[10],
        &["vm", "get", "order", "desc", "name,", "id", "-o", "name"],
        Shows(&["TestVM\nGuestVM2\nGuestVM\n"]),
    ),
    (&[11, 32], &["vm", "set", "di_tag=default"], Fails(10, &["all 5 virtual machines", "--force"])),
    (&[11, 32], &["vm", "set", "di_tag=default", "--force"], Total(5)),
    (&[32], &["vm", "name=myvm", "set", "di_tag=default"], Total(1)),
    (&[11], &["vm", "name=myvm", "set", "name=yourvm,", "di_tag=default"], Total(1)),
    (&[0], &["vm", "name=yourvm", "set", "name=myvm"], Total(1)),
    (&[12], &["vm", "set", "property", "mykey=myvalue"], Fails(10, &["all 5 virtual machines"])),
    (&[12], &["--force", "vm", "set", "property", "mykey=myvalue"], Total(5)),
    (&[12], &["vm", "name=myvm", "set", "property", "mykey=myvalue,", "yourkey=yourvalue"], Total(1)),
    (&[13], &["vm", "name=myvm", "del", "property", "mykey,", "yourkey"], Total(1)),
    (&[13], &["vm", "del", "property", "mykey"], Fails(10, &["all 5 virtual machines"])),
    (&[13], &["vm", "del", "property", "mykey", "--yes"], Total(5)),
    (&[0], &["vm", "get", "property"], Total(0)),
    (&[14], &["vm", "block"], Fails(10, &["all 5"])),
    (&[14], &["vm", "block", "--force"], Total(5)),
    (&[14], &["vm", "unblock", "-y"], Total(5)),
    (&[14], &["vm", "name=myvm", "block"], Total(1)),
    (&[14], &["vm", "name=myvm", "unblock"], Total(1)),
    (&[15], &["vm", "del"], Fails(10, &["all 5"])),
    (&[16], &["vm", "start"], Fails(10, &["all 5"])),
    (&[17], &["vm", "myVM", "get"], Shows(&["| myVM ", "Total: 1\n"])),
    (&[17], &["vm", "myVM", "set", "name=yourVM"], Total(1)),
    (&[42], &["vm", "id=2", "block"], Total(1)),
    (&[43], &["vm", "name=GuestVM unblock"], Total(1)),
    (&[72], &["vm", "name=TestVM", "unblock"], Total(1)),
    (&[44], &["user", "name=myuser", "set", "property", "mykey=myvalue,", "yourkey=yourvalue"], Total(1)),
    (&[0], &["user", "name=juan", "set", "property", "beverage=beer"], Total(1)),
    (&[45], &["user", "get", "property"], Shows(&["| juan   | beverage | beer      |", "Total: 3\n"])),
    (&[46], &["user", "name=juan", "property", "del", "beverage"], Total(1)),
    (&[0], &["user", "get", "property"], Shows(&["| myuser | mykey ", "Total: 2\n"])),
];

/// With five VMs, two of which have descriptions, and three values of the properties key1, key2 and key3.
const SELECTIONS: &[Row] = &[
    (&[18], &["vm", "id = 1", "get"], Total(1)),
    (&[18], &["vm", "id < 3", "get"], Total(2)),
    (&[18], &["vm", "id > 3", "get"], Total(2)),
    (&[18], &["vm", "id <= 3", "get"], Total(3)),
    (&[18], &["vm", "id >= 3", "get"], Total(3)),
    (&[18], &["vm", "id != 3", "get"], Total(4)),
    (&[18], &["vm", "id = [1,2,3]", "get"], Total(3)),
    (&[18], &["vm", "id != [1,2,3]", "get"], Total(2)),
    (&[18], &["vm", "id = [1:3]", "get"], Total(3)),
    (&[18], &["vm", "description = This_is_a_chain", "get"], Total(1)),
    (&[18], &["vm", "description = 'This is a chain'", "get"], Total(1)),
    (&[18], &["vm", "description ~ %s_is_a_ch%", "get"], Total(2)),
    (&[18], &["vm", "description ~ '%s is a ch%'", "get"], Total(1)),
    (&[19], &["vm", "key1=value,", "key2=value,", "key3=value", "get"], Total(1)),
    (&[19], &["vm", "(key1=value; key2=value), key3=value", "get", "-o", "name"], Shows(&["all\n", "b\n"])),
    (&[19], &["vm", "!key1=value", "get", "id"], Total(3)),
    (&[19], &["vm", "!key1=value, key2=value, key3=value", "get", "id"], Total(4)),
    (&[19], &["vm", "(! key1=value), key2=value, key3=value", "get", "-o", "name"], Shows(&["b\n"])),
];

const EXPIRATIONS: &[Row] = &[
    (&[66], &["vm", "di_id=1002", "set", "expiration_soft=now"], Total(3)),
    (
        &[67],
        &["vm", "di_name=1002-ubuntu-13-04.tar.gz", "set", "expiration_soft=now", "expiration_hard=tomorrow"],
        Total(3),
    ),
    (&[68], &["vm", "id=15", "set", "expiration_soft=now"], Total(1)),
    (&[68], &["vm", "id=15", "set", "expire-soft='now + 2 hours',", "expire-hard=never"], Total(1)),
];

const NODES: &[Row] = &[
    (&[0], &["host", "new", "name=qvd-a,address=192.168.0.2"], Shows(&["Total: 1"])),
    (&[0], &["host", "new", "name=qvd-b,address=192.168.0.3"], Shows(&["Total: 1"])),
    (&[69], &["host", "name~qvd%", "block"], Total(2)),
    (&[70], &["host", "address=192.168.0.2", "get"], Shows(&["| qvd-a |       1 | 192.168.0.2 |"])),
    (&[71], &["host", "name~qvd%", "unblock"], Total(2)),
];

/// What the shipped help shows, in the order in which what it needs is there.
const HELP: &[Row] = &[
    (&[], &["tenant", "name=default", "block"], Total(1)),
    (&[], &["tenant", "default", "unblock"], Total(1)),
    (
        &[],
        &["tenant", "get", "order", "desc", "name"],
        Shows(&["| id | name    | language | block | blocked |"]),
    ),
    (&[], &["role", "new", "name=myrole"], Shows(&["Total: 1\n"])),
    (&[], &["role", "new", "name=other"], Shows(&["Total: 1\n"])),
    (&[], &["role", "name=myrole", "assign", "acl", "user.update.block,", "user.see-main."], Total(1)),
    (&[], &["role", "name=other", "assign", "acl", "vm.see-main."], Total(1)),
    (&[], &["role", "name=myrole", "assign", "role", "other"], Total(1)),
    (&[], &["role", "myrole", "can"], Total(3)),
    (&[], &["role", "myrole", "can", "user.update."], Total(0)),
    (&[], &["role", "myrole", "can", "user%"], Shows(&["| user.see-main.    |", "Total: 2\n"])),
    (&[], &["role", "can", "user%"], Fails(6, &["1300"])),
    (&[], &["role", "myrole,", "other", "can"], Fails(2, &["select one"])),
    (&[], &["role", "myrole", "unassign", "acl", "user.see-main."], Total(1)),
    (&[], &["role", "myrole", "unassign", "acl", "vm.see-main."], Total(1)),
    (
        &[],
        &["role", "myrole", "get", "acls,", "roles", "-o", "list"],
        Shows(&["acls: (+) user.update.block, (-) vm.see-main.\nroles: other\n"]),
    ),
    (&[], &["role", "myrole", "unassign", "role", "other"], Total(1)),
    (&[], &["admin", "new", "name=myadmin,password=x"], Shows(&["Total: 1\n"])),
    (&[], &["admin", "name=myadmin", "assign", "role", "myrole"], Total(1)),
    (&[], &["admin", "myadmin", "can"], Total(1)),
    (&[], &["admin", "myadmin", "can", "user%"], Total(1)),
    (&[], &["admin", "myadmin", "get", "name,", "roles", "-o", "csv"], Shows(&["myadmin;myrole\n"])),
    (&[], &["admin", "myadmin", "unassign", "role", "myrole"], Total(1)),
    (&[], &["admin", "name=myadmin", "set", "language=es"], Total(1)),
    (&[], &["admin", "name=superadmin", "del"], Fails(8, &["code 5200"])),
    (&[], &["admin", "name=myadmin", "del"], Total(1)),
    (&[], &["role", "myrole,", "other", "del"], Total(2)),
    (&[], &["acl", "name~vm.%", "get", "order", "name"], Shows(&["| vm.see-main."])),
    (&[], &["config", "key=wat.multitenant,", "tenant_id=-1", "get"], Total(1)),
    (&[], &["config", "set", "key=myconfig,value=1,tenant=default"], Total(1)),
    (&[], &["config", "key='myconfig',", "tenant_id=1", "del"], Total(1)),
    (&[], &["log", "action=user_create", "get", "action,", "time,", "status"], Shows(&["| action "])),
    (&[], &["log", "get"], Shows(&["| time ", "| admin_name ", "| type_of_action   |", "| superadmin |"])),
    (&[], &["log", "admin=superadmin,", "type=create", "get", "object", "-o", "name"], Shows(&["myrole\n"])),
    (
        &[],
        &["log", "myrole", "get", "action", "order", "id", "-o", "csv"],
        Shows(&["action\nrole_create\nrole_update\n"]),
    ),
    (&[], &["stats"], Shows(&["| counter ", "| users_count "])),
    (&[], &["property", "new", "key=department"], Shows(&["Total: 1\n"])),
    (&[], &["property", "key=department", "assign", "user"], Total(1)),
    (&[], &["property", "key=department", "set", "description=d"], Total(1)),
    (&[], &["property", "key=department", "unassign", "user"], Total(1)),
    (&[], &["property", "key=department", "del"], Total(1)),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_the_help_works() {
    let it = Installation::start("help").await;
    let program = Program::of(&it, "superadmin", "*");
    for row in HELP {
        check(&program, row);
    }
    // The certificate, with files that fit each other and files that do not.
    let pair = qvd_relay::certificate::self_signed(&["localhost".to_owned()]).unwrap();
    let (cert, key) = (it.path("new-cert.pem"), it.path("new-key.pem"));
    std::fs::write(&cert, &pair.cert).unwrap();
    std::fs::write(&key, &pair.key).unwrap();
    let line =
        |cert: &std::path::Path, more: &str| format!("key={}, cert={}{more}", key.display(), cert.display());
    let unfit = program.run(&["config", "ssl", &line(&it.path("cert.pem"), "")]);
    assert_eq!((unfit.exit, unfit.out.as_str()), (2, ""), "{unfit:?}");
    assert!(unfit.err.contains("do not belong together"), "{unfit:?}");
    let absent = program.run(&["config", "ssl", "key=/nowhere,cert=/nowhere"]);
    assert_eq!((absent.exit, absent.err.contains("/nowhere: No such file")), (2, true), "{absent:?}");
    let set = program.run(&["config", "ssl", &line(&cert, &format!(", ca={}", cert.display()))]);
    assert_eq!((set.exit, set.out.as_str()), (0, "Total: 1\n"), "{set:?}");
    for told in ["the certificate is for localhost, until", "warning: ca: certificate 1"] {
        assert!(set.err.contains(told), "{set:?}");
    }
    let database = it.database();
    let client = database.client().await.unwrap();
    let kept = async |name: &str| qvd_db::configs::pem(database.vault(), &client, name).await.unwrap();
    assert_eq!(kept("l7r.ssl.key").await.as_deref(), Some(pair.key.as_str()));
    assert_eq!(kept("l7r.ssl.ca").await.as_deref(), Some(pair.cert.as_str()));
    // What is not named stays, what is empty goes.
    assert_eq!(program.run(&["config", "ssl", &line(&cert, "")]).exit, 0);
    assert!(kept("l7r.ssl.ca").await.is_some());
    assert_eq!(program.run(&["config", "ssl", &line(&cert, ", ca=''")]).exit, 0);
    assert!(kept("l7r.ssl.ca").await.is_none());
    it.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_gives_what_the_table_requires() {
    let it = Installation::start("manual").await;
    let program = Program::of(&it, "superadmin", "*");
    for row in SETTINGS {
        check(&program, row);
    }
    it.sql(
        "SELECT setval(pg_get_serial_sequence(t, 'id'), 1, false) FROM unnest(ARRAY['users', 'osfs', 'vms']) t;
         SELECT setval(pg_get_serial_sequence('dis', 'id'), 1000, false)",
    )
    .await;
    for row in OBJECTS {
        check(&program, row);
    }

    for file in ["test-image.tar.gz", "mydi", "my_image.tar.gz", "ubuntu-13-04.tar.gz"] {
        image_file(&it.path("staging").join(file));
    }
    check(&program, &(&[0], &["di", "staging"], Shows(&["| my_image.tar.gz     |", "Total: 4\n"])));
    for row in IMAGES {
        check(&program, row);
    }
    // Row 49: the path lies below the server's staging directory.
    it.sql("SELECT setval(pg_get_serial_sequence('dis', 'id'), 1010, false)").await;
    let path = format!("path={},osf=MyOSF", it.path("staging/my_image.tar.gz").display());
    let made = program.run(&["di", "new", &path]);
    assert_eq!((made.exit, made.out.contains("| 1010 |")), (0, true), "{made:#?}");

    it.running_host("node1", "10.3.15.9").await;
    for row in MACHINES {
        check(&program, row);
    }

    // Rows 16, 40 and 41: orders to machines that run, or do not.
    it.sql(
        "UPDATE vm_runtimes SET vm_state = 'running', vm_cmd = NULL, host_id = (SELECT min(id) FROM hosts)",
    )
    .await;
    check(&program, &(&[0], &["user", "name=peter", "set", "name=guest7"], Total(1)));
    check(&program, &(&[40], &["vm", "user~guest%", "stop"], Total(2)));
    check(&program, &(&[16], &["vm", "name=myvm", "stop"], Total(1)));
    it.sql("UPDATE vm_runtimes SET vm_state = 'stopped', vm_cmd = NULL, host_id = NULL WHERE vm_id <> 5")
        .await;
    check(&program, &(&[0], &["di", "new", "disk_image=test-image.tar.gz,osf=myOSF"], Id(1011)));
    check(&program, &(&[41], &["vm", "id=1", "start"], Total(1)));
    // Row 15: only stopped ones; the others are reported, each, and the exit code is 8.
    let partly = program.run(&["vm", "id=[3,5]", "del"]);
    assert_eq!(partly.exit, 8, "{partly:#?}");
    assert!(partly.err.contains("1 of 2 changed\n\t5 : "), "{partly:#?}");
    assert!(partly.err.contains("[code 7310]"), "{partly:#?}");
    it.sql("UPDATE vm_runtimes SET vm_state = 'stopped', vm_cmd = NULL, host_id = NULL").await;
    check(&program, &(&[39], &["vm", "name=GuestVM", "del"], Total(1)));
    check(&program, &(&[15], &["vm", "del", "--force"], Total(3)));

    // Rows 18 and 19.
    it.sql("SELECT setval(pg_get_serial_sequence('vms', 'id'), 1, false)").await;
    for (name, rest) in [
        ("all", "description=This_is_a_chain"),
        ("a", "description='This is a chain'"),
        ("b", "description=x"),
        ("c", "description=y"),
        ("d", "description=z"),
    ] {
        let made = program.run(&["vm", "new", &format!("name={name}, user=test, osf=MyOSF, {rest}")]);
        assert_eq!(made.exit, 0, "{made:#?}");
    }
    for (name, values) in
        [("all", "key1=value, key2=value, key3=value"), ("b", "key2=value, key3=value"), ("c", "key1=value")]
    {
        let set = program.run(&["vm", name, "set", "property", values]);
        assert_eq!(set.exit, 0, "{set:#?}");
    }
    for row in SELECTIONS {
        check(&program, row);
    }

    // Row 21: the listing of the manual, with its twelve columns.
    for n in 1..=6 {
        let made = program.run(&["vm", "new", &format!("name=q{n},user=qvd01,osf=myosf")]);
        assert_eq!(made.exit, 0, "{made:#?}");
    }
    let listed = program.run(&["vm", "user~qvd%,state=stopped,user_state=disconnected", "get"]);
    assert!(listed.out.ends_with("Total: 6\n"), "{listed:#?}");
    let titles: Vec<&str> = listed.out.lines().nth(1).unwrap().split('|').map(str::trim).collect();
    let manual = "id tenant name blocked user host di ip ip_in_use di_in_use state user_state";
    assert_eq!(titles.join(" ").trim(), manual);

    // Rows 66 to 68.
    it.sql(
        "SELECT setval(pg_get_serial_sequence('dis', 'id'), 1002, false);
         SELECT setval(pg_get_serial_sequence('vms', 'id'), 15, false)",
    )
    .await;
    const IMAGE: &[&str] = &["di", "new", "disk_image=ubuntu-13-04.tar.gz,osf=retest,default=1"];
    check(&program, &(&[0], IMAGE, Id(1002)));
    for n in 1..=3 {
        let made = program.run(&["vm", "new", &format!("name=u{n},user=juan,osf=retest")]);
        assert_eq!(made.exit, 0, "{made:#?}");
    }
    for row in EXPIRATIONS {
        check(&program, row);
    }
    let expires = program.run(&["vm", "id=[15:17]", "get", "id, expiration_hard"]);
    assert!(expires.out.contains(" CET ") || expires.out.contains(" CEST "), "{expires:#?}");
    for row in NODES {
        check(&program, row);
    }

    // Row 20, and what is made when there are several tenants.
    check(&program, &(&[0], &["tenant", "new", "name=qvd_test"], Shows(&["Total: 1"])));
    check(
        &program,
        &(&[0], &["osf", "new", "name=x"], Fails(2, &["in which tenant?", "default", "qvd_test"])),
    );
    for command in [
        &["user", "new", "name=far,password=x,tenant=qvd_test"][..],
        &["osf", "new", "name=far", "--for-tenant", "qvd_test"],
    ] {
        let made = program.run(command);
        assert_eq!(made.exit, 0, "{made:#?}");
    }
    it.sql("SELECT setval(pg_get_serial_sequence('vms', 'id'), 12001, false)").await;
    check(&program, &(&[0], &["vm", "new", "name=far,user=far,osf=far"], Id(12001)));
    check(
        &program,
        &(&[20], &["vm", "id>12000,tenant=qvd_test", "get"], Shows(&["| qvd_test |", "Total: 1\n"])),
    );
    it.stop().await;
}

#[test]
fn no_row_is_forgotten() {
    let tables = [SETTINGS, OBJECTS, IMAGES, MACHINES, SELECTIONS, EXPIRATIONS, NODES];
    let in_tables = tables.into_iter().flatten().flat_map(|(numbers, ..)| numbers.iter().copied());
    // The last stand in the test itself, between changes that no command can make.
    let tested: std::collections::BTreeSet<u8> = in_tables.chain([15, 16, 20, 21, 39, 40, 41, 49]).collect();
    assert!((1..=72).all(|row| tested.contains(&row)), "{tested:?}");
}
