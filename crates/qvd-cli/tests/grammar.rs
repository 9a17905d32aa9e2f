//! The command language: the manual's examples, and what must never reach the API.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "helpers of tests")]

use proptest::prelude::*;
use qvd_cli::command::{Assignment, Command, Grant, ObjectCommand, Order, Value, Verb};
use qvd_cli::grammar::{Line, parse};
use qvd_cli::noun::{NOUNS, Noun, VERBS};
use qvd_model::filter::lexer::quote;
use qvd_model::filter::text::print;
use qvd_model::filter::{Filter, Operator};

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
        "config set",
        "config set key=a, colour=b",
        "config x ssl key=a, cert=b",
        "di x staging",
        "di staging x",
        "vm staging",
        "nothing",
        "block 0",
        "block many",
        "vm block 5",
        "vm delete property",
        "vm delete",
        "vm start property",
        "vm set x=[1,2]",
        "vm name=x del now",
        "property k assign",
        "property del k",
    ] {
        assert!(parse(&Line::from_text(line)).is_err(), "{line}");
    }
    let error = parse(&Line::from_text("vm del name=foo")).unwrap_err();
    assert_eq!(error.caret("vm del name=foo"), "vm del name=foo\n       ^");
    assert!(error.message.contains("vm name=foo del"), "{}", error.message);
}

#[test]
fn errors_show_the_place_and_what_was_expected() {
    for (line, expected) in [
        ("vm get name=x", "put the filter before the action: vm name=x get\nvm get name=x\n       ^"),
        ("vm start myvm", "put the filter before the action: vm myvm start\nvm start myvm\n         ^"),
        (
            "vm name=x del y",
            "`del` takes nothing; expected the end of the command\nvm name=x del y\n              ^",
        ),
        ("vm name= del", "expected a verb"),
        ("vmm get", "did you mean `vm`?\nvmm get\n^"),
        ("vm gett", "did you mean `get`?\nvm gett\n   ^"),
        ("vm x strat", "did you mean `start`?\nvm x strat\n     ^"),
        ("vm x set name", "expected `=`, found the end of the command\nvm x set name\n             ^"),
        ("vm block 'abc", "unterminated quote\nvm block 'abc\n         ^"),
        ("user x can", "`can` is not available for users of desktops"),
        (
            "vm x get a b",
            "expected `,`, `order` or the end of the command, found `b`\nvm x get a b\n           ^",
        ),
    ] {
        let error = parse(&Line::from_text(line)).unwrap_err();
        let told = format!("{}\n{}", error.message, error.caret(line));
        assert!(told.contains(expected), "{line}: {told}");
    }
}

#[test]
fn a_misread_letter_is_stored_only_by_force() {
    let line = "config set tenant_id=-1, key=17r.auth.mode, value=ldap";
    let parsed = parse(&Line::from_text(line)).unwrap();
    let doubt = parsed.doubt.unwrap();
    assert!(doubt.message.contains("did you mean `l7r.auth.mode`?"), "{}", doubt.message);
    assert!(parse(&Line::from_text("config set key=l7r.port, value=1")).unwrap().doubt.is_none());
}

#[test]
fn properties_have_the_word_orders_of_the_manual() {
    for (line, meaning, tolerated) in [
        ("user name=juan property del beverage", "user name=juan del property beverage", true),
        ("user name=juan delete property beverage", "user name=juan del property beverage", true),
        ("user name=juan del property beverage", "user name=juan del property beverage", false),
        ("user x property set a=1, b=2", "user name=[x] set property a=1, b=2", true),
        ("vm set property mykey=myvalue", "vm set property mykey=myvalue", false),
        ("user get property", "user get property", false),
        ("user delete property k", "user del property k", true),
        // A VM may be called so.
        ("vm property del", "vm name=[property] del", false),
        ("vm x set property=1", "vm name=[x] set property=1", false),
    ] {
        let parsed = parse(&Line::from_text(line)).unwrap_or_else(|e| panic!("{line}: {e:?}"));
        assert_eq!(parsed.command.print(), meaning, "{line}");
        assert_eq!(!parsed.notes.is_empty(), tolerated, "{line}: {:?}", parsed.notes);
    }
}

#[test]
fn the_session_has_commands() {
    for line in [
        "usage",
        "usage vm",
        "login",
        "logout",
        "password",
        "totp",
        "totp on",
        "totp off",
        "totp reset bob",
        "block",
        "block 50",
        "stats",
        "version",
        "quit",
        "",
    ] {
        assert_eq!(parse(&Line::from_text(line)).unwrap().command.print(), line);
    }
    assert_eq!(parse(&Line::from_text("help vm")).unwrap().command.print(), "usage vm");
    assert_eq!(parse(&Line::from_text("exit")).unwrap().command.print(), "quit");
    let ssl = "config ssl key=/a/key.pem, cert=/a/cert.pem";
    assert_eq!(parse(&Line::from_text(ssl)).unwrap().command.print(), ssl);
}

#[test]
fn a_mixture_of_and_and_or_is_explained() {
    let parsed = parse(&Line::from_text("vm a=1, b=2; c=3 get")).unwrap();
    assert_eq!(parsed.notes, ["selection understood as: a=1, (b=2; c=3)"]);
    assert!(parse(&Line::from_text("vm a=1, b=2, c=3 get")).unwrap().notes.is_empty());
}

fn text() -> impl Strategy<Value = String> {
    let words: Vec<&str> = VERBS.iter().copied().chain(NOUNS.iter().map(|n| n.word)).collect();
    let odd = ["order", "asc", "desc", "by", "property", "delete", "NOT", "ITEM", "", "don't", "a  b", "\\"];
    prop_oneof![
        any::<String>(),
        "[a-z_]{1,6}",
        proptest::sample::select(words).prop_map(str::to_owned),
        proptest::sample::select(odd.to_vec()).prop_map(str::to_owned),
    ]
}

fn list() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(text(), 1..4)
}

fn selection() -> impl Strategy<Value = Filter> {
    let operators = [Operator::Equal, Operator::Different, Operator::Like, Operator::Less, Operator::AtLeast];
    let one = (text(), proptest::sample::select(operators.to_vec()), text())
        .prop_map(|(field, operator, value)| Filter::test(field, operator, value));
    let many = (text(), list()).prop_map(|(field, values)| Filter::any_of(field, values));
    prop_oneof![one, many].prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.or(b)),
            inner.prop_map(Filter::negated),
        ]
    })
}

fn assignments() -> impl Strategy<Value = Vec<Assignment>> {
    let one = (text(), text()).prop_map(|(name, value)| Assignment { name, value: Value::One(value) });
    proptest::collection::vec(one, 1..4).prop_map(|mut all| {
        let mut seen = std::collections::HashSet::new();
        all.retain(|a| seen.insert(a.name.clone()));
        all
    })
}

/// Every verb of a noun, with all that may follow it. `config set` has names of its own and is tested apart.
fn verb(noun: &'static Noun) -> BoxedStrategy<Verb> {
    let mut choices: Vec<BoxedStrategy<Verb>> = Vec::new();
    for word in noun.verbs {
        let order = proptest::option::of((any::<bool>(), list()));
        let order = order.prop_map(|o| o.map(|(descending, fields)| Order { descending, fields }));
        choices.push(match *word {
            "get" => (proptest::collection::vec(text(), 0..3), order)
                .prop_map(|(fields, order)| Verb::Get { fields, order })
                .boxed(),
            "new" => assignments().prop_map(Verb::New).boxed(),
            "set" if noun.word == "config" => Just(Verb::Default).boxed(),
            "set" => assignments().prop_map(Verb::Set).boxed(),
            "tag" => list().prop_map(Verb::Tag).boxed(),
            "untag" => list().prop_map(Verb::Untag).boxed(),
            "assign" | "unassign" if noun.word == "property" => {
                (list(), any::<bool>()).prop_map(|(kinds, undo)| Verb::Assign { kinds, undo }).boxed()
            }
            "assign" | "unassign" => {
                let grants =
                    if noun.word == "role" { vec![Grant::Roles, Grant::Acls] } else { vec![Grant::Roles] };
                (proptest::sample::select(grants), list(), any::<bool>())
                    .prop_map(|(what, names, undo)| Verb::Grant { what, names, undo })
                    .boxed()
            }
            "can" => proptest::option::of(text()).prop_map(Verb::Can).boxed(),
            "ssl" => Just(Verb::Default).boxed(),
            "staging" => Just(Verb::Explain).boxed(),
            "block" => Just(Verb::Block(true)).boxed(),
            "unblock" => Just(Verb::Block(false)).boxed(),
            "del" => Just(Verb::Delete).boxed(),
            "start" => Just(Verb::Start).boxed(),
            "stop" => Just(Verb::Stop).boxed(),
            "disconnect" => Just(Verb::Disconnect).boxed(),
            "default" => Just(Verb::Default).boxed(),
            _ => Just(Verb::Explain).boxed(),
        });
    }
    if noun.object.properties().is_some() {
        choices.push(proptest::collection::vec(text(), 0..3).prop_map(Verb::GetProperties).boxed());
        choices.push(assignments().prop_map(Verb::SetProperties).boxed());
        choices.push(list().prop_map(Verb::DeleteProperties).boxed());
    }
    proptest::strategy::Union::new(choices).boxed()
}

fn object_command() -> impl Strategy<Value = Command> {
    (0..NOUNS.len()).prop_flat_map(|at| {
        let noun = &NOUNS[at];
        (proptest::option::of(selection()), verb(noun)).prop_filter_map("verb", move |(selection, verb)| {
            let known = noun.verbs.contains(&verb.word()) || verb.word().ends_with("property");
            let selection = if matches!(verb, Verb::New(_)) { None } else { selection };
            known.then_some(Command::Object(ObjectCommand { noun, selection, verb }))
        })
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(command in object_command()) {
        let line = command.print();
        match parse(&Line::from_text(&line)) {
            Ok(parsed) => prop_assert_eq!(parsed.command, command, "{}", line),
            Err(error) => prop_assert!(false, "{}\n{}", error.message, error.caret(&line)),
        }
    }

    #[test]
    fn any_value_of_a_setting_survives(key in "[a-z.]{1,12}", value: String) {
        let line = format!("config set key={key}, value={}", quote(&value));
        let parsed = parse(&Line::from_text(&line)).unwrap();
        let Command::Object(ObjectCommand { verb: Verb::Set(list), .. }) = parsed.command else {
            return Err(TestCaseError::fail(line));
        };
        prop_assert_eq!(&list[1].value, &Value::One(value));
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place(line: String, words in "[a-z'\"=,;!()\\[\\]~<>: é]{0,40}") {
        for line in [line, format!("vm {words}"), format!("config {words}"), format!("di new {words}")] {
            if let Err(error) = parse(&Line::from_text(&line)) {
                prop_assert!(error.at <= line.len() && line.is_char_boundary(error.at), "{}", line);
            }
        }
    }

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
