//! The nouns and verbs of the command language (`spec/cli.md` 1.9).

use qvd_model::action::Object;

/// An object as it is called on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noun {
    /// The word.
    pub word: &'static str,
    /// What it stands for.
    pub object: Object,
    /// In words, for the help.
    pub title: &'static str,
    /// What can be done with it.
    pub verbs: &'static [&'static str],
    /// An example of making one.
    pub example: &'static str,
    /// An example of a selection.
    pub sample: &'static str,
    /// An example of a change.
    pub change: &'static str,
}

/// Every noun.
pub const NOUNS: &[Noun] = &[
    Noun {
        word: "vm",
        object: Object::Vm,
        title: "virtual machines",
        verbs: &[
            "get",
            "new",
            "import",
            "set",
            "block",
            "unblock",
            "del",
            "start",
            "stop",
            "disconnect",
            "explain",
            "ssh",
            "vnc",
            "spy",
            "console",
        ],
        example: "name=desk1, user=ann, osf=office",
        sample: "name=desk1",
        change: "di_tag=testing",
    },
    Noun {
        word: "user",
        object: Object::User,
        title: "users of desktops",
        verbs: &["get", "new", "import", "set", "block", "unblock", "del", "explain"],
        example: "name=ann, password=s3cr3t",
        sample: "name=ann",
        change: "password=n3w",
    },
    Noun {
        word: "host",
        object: Object::Host,
        title: "server nodes",
        verbs: &["get", "new", "import", "set", "block", "unblock", "drain", "del", "explain"],
        example: "name=node1, address=10.3.15.1",
        sample: "name=node1",
        change: "address=10.3.15.2",
    },
    Noun {
        word: "osf",
        object: Object::Osf,
        title: "operating system flavours",
        verbs: &["get", "new", "import", "set", "del", "explain"],
        example: "name=office, memory=512",
        sample: "name=office",
        change: "memory=1024",
    },
    Noun {
        word: "di",
        object: Object::Di,
        title: "disk images",
        verbs: &["get", "new", "set", "tag", "untag", "block", "unblock", "del", "staging", "explain"],
        example: "path=/images/office.tar.gz, osf=office",
        sample: "osf=office",
        change: "description='with the new editor'",
    },
    Noun {
        word: "tenant",
        object: Object::Tenant,
        title: "tenants",
        verbs: &["get", "new", "import", "set", "block", "unblock", "del"],
        example: "name=acme",
        sample: "name=acme",
        change: "language=es",
    },
    Noun {
        word: "admin",
        object: Object::Administrator,
        title: "administrators",
        verbs: &["get", "new", "import", "set", "assign", "unassign", "can", "diff", "del"],
        example: "name=bob, password=s3cr3t",
        sample: "name=bob",
        change: "language=es",
    },
    Noun {
        word: "role",
        object: Object::Role,
        title: "roles of administrators",
        verbs: &["get", "new", "import", "set", "assign", "unassign", "can", "diff", "del"],
        example: "name=helpdesk",
        sample: "name=helpdesk",
        change: "description='answers the telephone'",
    },
    Noun {
        word: "acl",
        object: Object::Acl,
        title: "own permissions",
        verbs: &["get"],
        example: "",
        sample: "name~vm.%",
        change: "",
    },
    Noun {
        word: "config",
        object: Object::Config,
        title: "settings",
        verbs: &["get", "set", "del", "default", "ssl"],
        example: "key=l7r.port, value=8443",
        sample: "key=l7r.port",
        change: "key=l7r.port, value=8443",
    },
    Noun {
        word: "property",
        object: Object::Property,
        title: "custom properties",
        verbs: &["get", "new", "import", "set", "assign", "unassign", "del"],
        example: "key=department, description='where they work'",
        sample: "key=department",
        change: "description='cost center'",
    },
    Noun {
        word: "token",
        object: Object::Token,
        title: "tokens of programs",
        verbs: &["get", "new", "del"],
        example: "name=backup, scope='vm.see-main. user.see-main.', expiration=2031-01-01",
        sample: "name=backup",
        change: "",
    },
    Noun {
        word: "session",
        object: Object::Session,
        title: "sessions of administrators",
        verbs: &["get", "del"],
        example: "",
        sample: "admin=bob",
        change: "",
    },
    Noun {
        word: "log",
        object: Object::Log,
        title: "what administrators did",
        verbs: &["get"],
        example: "",
        sample: "status!=0",
        change: "",
    },
];

/// The noun of VMs.
pub const VM: &Noun = &NOUNS[0];

/// Every verb, also of nouns that lack it: it is recognised so that the refusal can say so.
pub const VERBS: &[&str] = &[
    "get",
    "new",
    "import",
    "set",
    "block",
    "unblock",
    "del",
    "start",
    "stop",
    "disconnect",
    "tag",
    "untag",
    "assign",
    "unassign",
    "can",
    "diff",
    "default",
    "drain",
    "ssl",
    "staging",
    "explain",
    "ssh",
    "vnc",
    "spy",
    "console",
];

/// The noun of a word.
pub fn noun(word: &str) -> Option<&'static Noun> {
    NOUNS.iter().find(|n| n.word == word)
}
