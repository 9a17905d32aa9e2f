//! The command language: the manual's examples, and what must never reach the API.

#![allow(clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use qvd_cli::command::{Assignment, Command, ObjectCommand, Value, Verb};
use qvd_cli::grammar::{Line, parse};
use qvd_cli::noun::{NOUNS, VERBS};
use qvd_model::filter::lexer::quote;
use qvd_model::filter::text::print;

fn object(arguments: &[&str]) -> ObjectCommand {
    match parse(&Line::from_arguments(arguments)).unwrap_or_else(|e| panic!("{arguments:?}: {e:?}")).command {
        Command::Object(command) => command,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

/// Object, selection and verb, written out.
fn read(arguments: &[&str]) -> String {
    let command = object(arguments);
    let selection = command.selection.map_or_else(|| "all".to_owned(), |f| print(&f));
    let values = |list: &[Assignment]| {
        list.iter()
            .map(|a| match &a.value {
                Value::One(text) => format!("{}={text}", a.name),
                Value::Many(texts) => format!("{}=[{}]", a.name, texts.join("|")),
                Value::Ask => format!("{}=?", a.name),
            })
            .collect::<Vec<_>>()
            .join(" & ")
    };
    let tail = match &command.verb {
        Verb::Get { fields, order } => {
            let order = order.as_ref().map(|o| format!(" by {} {}", o.descending, o.fields.join("|")));
            format!("{}{}", fields.join("|"), order.unwrap_or_default())
        }
        Verb::New(list) | Verb::Set(list) => values(list),
        Verb::Tag(tags) | Verb::Untag(tags) => tags.join("|"),
        _ => String::new(),
    };
    format!("{} <{selection}> {} {tail}", command.noun.word, command.verb.word()).trim_end().to_owned()
}

#[test]
fn the_examples_of_the_manual() {
    let examples: &[(&[&str], &str)] = &[
        (
            &["config", "set", "tenant_id=-1,key=vm.network.netmask,value=24"],
            "config <all> set tenant_id=-1 & key=vm.network.netmask & value=24",
        ),
        (&["vm", "get"], "vm <all> get"),
        (&["vm", "name=myvm", "get", "name,", "id,", "ip"], "vm <name=myvm> get name|id|ip"),
        (&["vm", "get", "order", "asc", "name,", "id"], "vm <all> get  by false name|id"),
        (&["vm", "get", "order", "desc", "name"], "vm <all> get  by true name"),
        (
            &["vm", "name=myvm", "set", "name=yourvm,", "di_tag=default"],
            "vm <name=myvm> set name=yourvm & di_tag=default",
        ),
        (&["vm", "myVM", "get"], "vm <name=[myVM]> get"),
        (&["vm", "a,", "b", "get"], "vm <name=[a, b]> get"),
        (&["vm", "!a", "get"], "vm <name!=[a]> get"),
        (
            &["vm", "user~qvd%,state=stopped,user_state=disconnected", "get"],
            "vm <user~qvd%, state=stopped, user_state=disconnected> get",
        ),
        (
            &["config", "set", "tenant_id=-1,key=myproperty,value=this is a value"],
            "config <all> set tenant_id=-1 & key=myproperty & value=this is a value",
        ),
        (
            &["config", "set", "tenant_id=-1,key=qvd.prop", "default"],
            "config <tenant_id=-1, key=qvd.prop> default",
        ),
        (&["config", "get"], "config <all> get"),
        (
            &["host", "new", "name=myhost,", "address=10.3.15.1"],
            "host <all> new name=myhost & address=10.3.15.1",
        ),
        (&["host", "name=myhost", "del"], "host <name=myhost> del"),
        (&["osf", "new", "name=myOSF"], "osf <all> new name=myOSF"),
        (
            &["di", "new", "path=/var/lib/qvd/storage/staging/my_image.tar.gz,osf=MyOSF"],
            "di <all> new path=/var/lib/qvd/storage/staging/my_image.tar.gz & osf=MyOSF",
        ),
        (
            &["di", "disk_image=mydi", "tag", "default,", "head,", "mytag"],
            "di <disk_image=mydi> tag default|head|mytag",
        ),
        (&["user", "new", "login=peter,password=s3cr3t"], "user <all> new login=peter & password=s3cr3t"),
        (&["user", "name=guest", "set", "passwd=newpassword"], "user <name=guest> set passwd=newpassword"),
        (&["user", "name=guest", "set", "passwd"], "user <name=guest> set passwd=?"),
        (
            &["vm", "new", "name=GuestVM,user_id=1", "osf_id=1"],
            "vm <all> new name=GuestVM & user_id=1 & osf_id=1",
        ),
        (&["vm", "user~guest%", "stop"], "vm <user~guest%> stop"),
        (&["vm", "id=1", "start"], "vm <id=1> start"),
        (&["vm", "name=GuestVM unblock"], "vm <name=GuestVM> unblock"),
        (
            &["config", "set", "key", "tenant_id=-1,=auth.ldap.host,value=ldap://example.com:389"],
            "config <all> set tenant_id=-1 & key=auth.ldap.host & value=ldap://example.com:389",
        ),
        (
            &["config", "set", "key", "tenant_id=-1,=auth.ldap.base,value=dc=example,dc=com"],
            "config <all> set tenant_id=-1 & key=auth.ldap.base & value=dc=example,dc=com",
        ),
        (
            &["config", "set", "key", "tenant_id=-1,=auth.ldap.filter,value=(|(uid =%u)(cn=%u))"],
            "config <all> set tenant_id=-1 & key=auth.ldap.filter & value=(|(uid =%u)(cn=%u))",
        ),
        (
            &["config", "set", "key=a,value=b c,tenant=acme"],
            "config <all> set key=a & value=b c & tenant=acme",
        ),
        (&["config", "l7r.port", "set", "value=8443"], "config <all> set value=8443 & key=l7r.port"),
        (&["config", "key=a, tenant_id=10000", "default"], "config <key=a, tenant_id=10000> default"),
        (
            &[
                "vm",
                "di_name=1000-ubuntu-13-04.tar.gz",
                "set",
                "expiration_soft=2026-01-31 expiration_hard=2026-02-01",
            ],
            "vm <di_name=1000-ubuntu-13-04.tar.gz> set expiration_soft=2026-01-31 & expiration_hard=2026-02-01",
        ),
        (&["host", "name~'qvd%'", "block"], "host <name~qvd%> block"),
        (&["di", "new", "path=/a,", "tags=[a,b]"], "di <all> new path=/a & tags=[a|b]"),
        (&["vm", "TestVM", "explain"], "vm <name=[TestVM]> explain"),
        (&["vm", "name=get", "get"], "vm <name=get> get"),
        (&["tenant", "default", "block"], "tenant <name=[default]> block"),
    ];
    for (arguments, meaning) in examples {
        assert_eq!(read(arguments), *meaning, "{arguments:?}");
    }
}

/// `spec/cli.md` 1.8: what upstream reads as "all objects".
#[test]
fn dangerous_lines_are_refused() {
    for line in [
        "vm del name=foo",
        "vm start myvm",
        "vm stop name=foo",
        "vm del property",
        "vm get name=x",
        "vm id=1 set name",
        "vm tag x",
        "osf assign acl a",
        "user can",
        "vm start start",
        "vm block 'abc",
        "user name=x set description=don't, blocked=1",
        "vm set name=a, name=b",
        "vm set name>3",
        "vm GET",
        "vm name=x",
        "vm x new name=y",
        "config set tenant_id=-1, key=17r.auth.mode, value=ldap",
        "config set",
        "config set key=a, colour=b",
        "nothing",
    ] {
        assert!(parse(&Line::from_text(line)).is_err(), "{line}");
    }
    let error = parse(&Line::from_text("vm del name=foo")).unwrap_err();
    assert_eq!(error.caret("vm del name=foo"), "vm del name=foo\n       ^");
    assert!(error.message.contains("vm name=foo del"), "{}", error.message);
}

#[test]
fn a_mixture_of_and_and_or_is_explained() {
    let parsed = parse(&Line::from_text("vm a=1, b=2; c=3 get")).unwrap();
    assert_eq!(parsed.notes, ["selection understood as: a=1, (b=2; c=3)"]);
    assert!(parse(&Line::from_text("vm a=1, b=2, c=3 get")).unwrap().notes.is_empty());
}

proptest! {
    /// Nothing after a verb that takes nothing is ever accepted.
    #[test]
    fn no_tail_is_ignored(noun in 0..NOUNS.len(), verb in 0..7usize, tail in "[a-z'=,;!() ]{1,12}") {
        let verb = ["del", "start", "stop", "disconnect", "block", "unblock", "explain"][verb];
        prop_assume!(!tail.trim().is_empty());
        let line = format!("{} {verb} {tail}", NOUNS[noun].word);
        if let Ok(parsed) = parse(&Line::from_text(&line)) {
            // It may have been read as a name: `vm del, x get` selects VMs.
            let Command::Object(command) = parsed.command else { return Ok(()) };
            prop_assert!(command.selection.is_some(), "{}", line);
        }
    }

    #[test]
    fn any_quoted_name_survives(name: String) {
        let line = format!("vm name={} del", quote(&name));
        let parsed = parse(&Line::from_text(&line)).unwrap();
        let Command::Object(ObjectCommand { selection: Some(filter), .. }) = parsed.command else {
            return Err(TestCaseError::fail(line));
        };
        prop_assert_eq!(filter, qvd_model::filter::Filter::test("name", qvd_model::filter::Operator::Equal, name));
    }

    #[test]
    fn no_line_makes_the_parser_fail(line in "(vm|config|di)? ?(set|get|del)? ?[a-z=,'\\[\\](): ]{0,30}") {
        let _ = parse(&Line::from_text(&line));
    }
}

#[test]
fn every_verb_of_a_noun_is_a_verb() {
    for noun in NOUNS {
        assert!(noun.verbs.iter().all(|v| VERBS.contains(v)), "{}", noun.word);
    }
}
