//! The table of objects and their fields (`spec/api.md` 4 and 7.4).

use super::field::{Field, Kind};
use super::properties::{nested_properties, stored_properties};
use super::{Change, Entity, Nested, Object, Tenancy, Verb};

pub(super) const fn field(name: &'static str, kind: Kind, help: &'static str) -> Field {
    Field::new(name, kind, help)
}

pub(super) const fn id() -> Field {
    field("id", Kind::Int, "number")
}

pub(super) const fn description(see: &'static [&'static str], update: &'static [&'static str]) -> Field {
    field("description", Kind::Text(32768), "free text").see(see).optional(&[]).updated(update)
}

/// Who made an object, and when: from the columns that the creation fills.
pub(super) const fn creation(see: [&'static [&'static str]; 2]) -> [Field; 3] {
    let [date, by] = see;
    [
        field("creation_date", Kind::Moment, "when it was created").see(date),
        field("creation_admin_id", Kind::Int, "number of its creator").see(by),
        field("creation_admin_name", Kind::Text(80), "name of its creator").see(by),
    ]
}

pub(super) const TENANT_NAME: Field =
    field("tenant_name", Kind::Login(80), "tenant it belongs to").for_super();
pub(super) const TENANT_ID: Field = field("tenant_id", Kind::Int, "number of its tenant").for_super();

/// The tenant of objects that are made in one: super-administrators have to say which.
pub(super) const OWN_TENANT_ID: Field = TENANT_ID.required().named_by("tenant_name");

const VM_STATES: &[&str] = &["stopped", "starting", "running", "stopping", "zombie", "debugging"];
const USER_STATES: &[&str] = &["disconnected", "connecting", "connected"];
const HOST_STATES: &[&str] = &["stopped", "starting", "running", "stopping", "lost"];
const DI_STATES: &[&str] = &[
    "new",
    "generating",
    "fail",
    "uploading",
    "upload_stalled",
    "verifying",
    "ready",
    "published",
    "retired",
];

const VM_USER: &[&str] = &["vm.see.user"];
const VM_OSF: &[&str] = &["vm.see.osf"];
const VM_DI: &[&str] = &["vm.see.di"];
const VM_HOST: &[&str] = &["vm.see.host"];
const VM_BLOCK: &[&str] = &["vm.see.block", "*.see.vm-list-block"];
const VM_STATE: &[&str] = &["vm.see.state", "*.see.vm-list-state"];
const VM_EXPIRATION: &[&str] = &["vm.see.expiration", "*.see.vm-list-expiration"];
const VM_CREATION: [Field; 3] = creation([&["vm.see.creation-date"], &["vm.see.created-by"]]);

pub(super) const VM: Entity = Entity {
    object: Object::Vm,
    fields: &[
        id(),
        field("name", Kind::Text(64), "name").required().updated(&["vm.update.name"]),
        description(&["vm.see.description"], &["vm.update.description"]),
        field("user_id", Kind::Int, "number of its owner").see(VM_USER).required().named_by("user_name"),
        field("user_name", Kind::Login(64), "login of its owner").see(VM_USER),
        field("real_user_name", Kind::Login(64), "login of who is connected, or was last").see(VM_USER),
        field("osf_id", Kind::Int, "number of its flavour").see(VM_OSF).required().named_by("osf_name"),
        field("osf_name", Kind::Text(64), "its flavour").see(VM_OSF),
        field("di_tag", Kind::Text(128), "tag of the image to boot")
            .see(&["vm.see.di-tag"])
            .optional(&["vm.create.di-tag"])
            .updated(&["vm.update.di-tag"]),
        field("blocked", Kind::Switch, "users cannot connect")
            .see(VM_BLOCK)
            .optional(&[])
            .updated(&["vm.update.block"]),
        field("expiration_soft", Kind::Moment, "when the user is asked to leave")
            .see(VM_EXPIRATION)
            .optional(&[])
            .updated(&["vm.update.expiration"]),
        field("expiration_hard", Kind::Moment, "when it is restarted")
            .see(VM_EXPIRATION)
            .optional(&[])
            .updated(&["vm.update.expiration"]),
        field("state", Kind::Word(VM_STATES), "stopped, starting, running, stopping, zombie or debugging")
            .see(VM_STATE),
        field("step", Kind::Text(64), "what its start is doing").see(VM_STATE),
        field("failure_code", Kind::Text(64), "why the last start failed, in a word").see(VM_STATE),
        field("failure_text", Kind::Text(32768), "why the last start failed").see(VM_STATE),
        field("run_attempts", Kind::Int, "how often it was told to start").see(VM_STATE),
        field("run_ok", Kind::Int, "how often it came up").see(VM_STATE),
        field("host_id", Kind::Int, "number of its host").see(VM_HOST),
        field("host_name", Kind::Text(127), "host that runs it").see(VM_HOST),
        field("di_id", Kind::Int, "number of the image that its tag means").see(VM_DI),
        field("di_name", Kind::Text(4096), "image that its tag means").see(VM_DI),
        field("di_version", Kind::Text(64), "version of that image").see(&["vm.see.di-version"]),
        field("user_state", Kind::Word(USER_STATES), "disconnected, connecting or connected")
            .see(&["vm.see.user-state"]),
        field("ip", Kind::Address, "address for its next start")
            .see(&["vm.see.ip"])
            .optional(&[])
            .updated(&["vm.update.*"]),
        field("mac", Kind::Text(17), "hardware address").see(&["vm.see.mac"]),
        field("next_boot_ip", Kind::Text(127), "same as ip_in_use").see(&["vm.see.next-boot-ip"]),
        field("ip_in_use", Kind::Text(127), "address at the moment").see(&["vm.see.ip"]),
        field("di_id_in_use", Kind::Int, "number of the image that it runs").see(VM_DI),
        field("di_name_in_use", Kind::Text(4096), "image that it runs").see(VM_DI),
        field("di_version_in_use", Kind::Text(64), "version of the image that it runs")
            .see(&["vm.see.di-version"]),
        field("ssh_port", Kind::Int, "port of its SSH server").see(&["vm.see.port-ssh"]),
        field("vnc_port", Kind::Int, "port of its screen on the host").see(&["vm.see.port-vnc"]),
        field("serial_port", Kind::Int, "port of its console on the host").see(&["vm.see.port-serial"]),
        field("storage", Kind::Text(4096), "kept for old clients").optional(&[]).updated(&["vm.update.*"]),
        VM_CREATION[0],
        VM_CREATION[1],
        VM_CREATION[2],
        field("time_until_expiration_soft", Kind::Structure, "time left").see(VM_EXPIRATION).only_shown(),
        field("time_until_expiration_hard", Kind::Structure, "time left").see(VM_EXPIRATION).only_shown(),
        TENANT_ID,
        TENANT_NAME,
        stored_properties(&["vm.see.properties"]),
    ],
    aliases: &[
        ("user", "user_name"),
        ("login", "user_name"),
        ("osf", "osf_name"),
        ("host", "host_name"),
        ("di", "di_name"),
        ("tag", "di_tag"),
        ("di_in_use", "di_name_in_use"),
        ("tenant", "tenant_name"),
        ("expire-soft", "expiration_soft"),
        ("expire_soft", "expiration_soft"),
        ("expire-hard", "expiration_hard"),
        ("expire_hard", "expiration_hard"),
    ],
    nested: &nested_properties(&["vm.create.properties"], &["vm.update.properties"]),
    tenancy: Tenancy::Inherited,
    key: "name",
    selectors: &["user_id", "host_id"],
    columns: &[
        "id",
        "tenant",
        "name",
        "blocked",
        "user",
        "host",
        "di",
        "ip",
        "ip_in_use",
        "di_in_use",
        "state",
        "user_state",
    ],
};

const USER_CREATION: [Field; 3] = creation([&["user.see.creation-date"], &["user.see.created-by"]]);

pub(super) const USER: Entity = Entity {
    object: Object::User,
    fields: &[
        id(),
        field("name", Kind::Login(64), "login").required().updated(&["user.update.*"]),
        description(&["user.see.description"], &["user.update.description"]),
        field("blocked", Kind::Switch, "may not log in")
            .see(&["user.see.block"])
            .optional(&[])
            .updated(&["user.update.block"]),
        USER_CREATION[0],
        USER_CREATION[1],
        USER_CREATION[2],
        field("number_of_vms", Kind::Int, "VMs owned").see(&["user.see.vms-info"]).only_shown(),
        field("number_of_vms_connected", Kind::Int, "VMs in use")
            .see(&["user.see.vm-list-state"])
            .only_shown(),
        OWN_TENANT_ID,
        TENANT_NAME,
        field("password", Kind::Password, "password; never shown")
            .hidden()
            .only_shown()
            .required()
            .updated(&["user.update.password"]),
        stored_properties(&["user.see.properties"]),
    ],
    aliases: &[("login", "name"), ("passwd", "password"), ("tenant", "tenant_name")],
    nested: &nested_properties(&["user.create.properties"], &["user.update.properties"]),
    tenancy: Tenancy::Own,
    key: "name",
    selectors: &[],
    columns: &["id", "tenant", "name", "blocked", "number_of_vms", "number_of_vms_connected"],
};

const HOST_STATE: &[&str] = &["host.see.state"];
const HOST_CREATION: [Field; 3] = creation([&["host.see.creation-date"], &["host.see.created-by"]]);

pub(super) const HOST: Entity = Entity {
    object: Object::Host,
    fields: &[
        id(),
        field("name", Kind::Text(127), "the `nodename` of the node")
            .required()
            .updated(&["host.update.name"]),
        description(&["host.see.description"], &["host.update.description"]),
        field("address", Kind::Address, "address of the node")
            .see(&["host.see.address"])
            .required()
            .updated(&["host.update.address"]),
        field("blocked", Kind::Switch, "takes neither connections nor VMs")
            .see(&["host.see.block"])
            .optional(&[])
            .updated(&["host.update.block"]),
        field("frontend", Kind::Switch, "takes connections of clients")
            .optional(&[])
            .updated(&["host.update.*"]),
        field("backend", Kind::Switch, "runs VMs").optional(&[]).updated(&["host.update.*"]),
        field("state", Kind::Word(HOST_STATES), "stopped, starting, running, stopping or lost")
            .see(HOST_STATE),
        field("suspect", Kind::Text(127), "why it gets no new VMs at the moment, if its heartbeat is late")
            .see(HOST_STATE),
        field("heartbeat_age", Kind::Int, "seconds since its last heartbeat").see(HOST_STATE),
        field("usable_ram", Kind::Real, "memory in MB that it has for VMs").see(HOST_STATE),
        field("usable_cpu", Kind::Real, "processors that it has for VMs, in bogomips").see(HOST_STATE),
        field("http_requests", Kind::Int, "requests of clients to its router").see(HOST_STATE),
        field("auth_attempts", Kind::Int, "logins that were tried at its router").see(HOST_STATE),
        field("auth_ok", Kind::Int, "logins that succeeded there").see(HOST_STATE),
        field("nx_attempts", Kind::Int, "connections to desktops that were tried there").see(HOST_STATE),
        field("nx_ok", Kind::Int, "connections that came about").see(HOST_STATE),
        field("short_sessions", Kind::Int, "connections that ended at once").see(HOST_STATE),
        HOST_CREATION[0],
        HOST_CREATION[1],
        HOST_CREATION[2],
        field("number_of_vms_connected", Kind::Int, "running VMs").see(&["host.see.vms-info"]),
        field("vm_id", Kind::Int, "number of a VM on it").hidden().unordered(),
        stored_properties(&["host.see.properties"]),
    ],
    aliases: &[("ip", "address"), ("ip_address", "address"), ("vms_connected", "number_of_vms_connected")],
    nested: &nested_properties(&["host.create.properties"], &["host.update.properties"]),
    tenancy: Tenancy::None,
    key: "name",
    selectors: &[],
    columns: &[
        "id",
        "name",
        "blocked",
        "address",
        "frontend",
        "backend",
        "state",
        "suspect",
        "number_of_vms_connected",
    ],
};

const OSF_CREATION: [Field; 3] = creation([&["osf.see.creation-date"], &["osf.see.created-by"]]);

pub(super) const OSF: Entity = Entity {
    object: Object::Osf,
    fields: &[
        id(),
        field("name", Kind::Text(64), "name").required().updated(&["osf.update.name"]),
        description(&["osf.see.description"], &["osf.update.description"]),
        field("overlay", Kind::Switch, "changes go to an overlay")
            .see(&["osf.see.overlay"])
            .optional(&[])
            .updated(&["osf.update.*"]),
        field("user_storage", Kind::Count, "MB of home; empty for no limit, 0 for none")
            .see(&["osf.see.user-storage"])
            .optional(&["osf.create.user-storage"])
            .updated(&["osf.update.user-storage"]),
        field("memory", Kind::Count, "MB for each VM")
            .see(&["osf.see.memory"])
            .optional(&["osf.create.memory"])
            .updated(&["osf.update.memory"]),
        field("number_of_vms", Kind::Int, "VMs of it").see(&["osf.see.vms-info"]).only_shown(),
        field("number_of_dis", Kind::Int, "images of it").see(&["osf.see.dis-info"]).only_shown(),
        OSF_CREATION[0],
        OSF_CREATION[1],
        OSF_CREATION[2],
        field("osd_id", Kind::Int, "definition in the image generator")
            .only_shown()
            .optional(&[])
            .updated(&["osf.update.*"]),
        field("vm_id", Kind::Int, "number of a VM of it").hidden().unordered(),
        field("di_id", Kind::Int, "number of an image of it").hidden().unordered(),
        OWN_TENANT_ID,
        TENANT_NAME,
        stored_properties(&["osf.see.properties"]),
    ],
    aliases: &[
        ("use_overlay", "overlay"),
        ("user_storage_size", "user_storage"),
        ("ram", "memory"),
        ("tenant", "tenant_name"),
    ],
    nested: &nested_properties(&["osf.create.properties"], &["osf.update.properties"]),
    tenancy: Tenancy::Own,
    key: "name",
    selectors: &[],
    columns: &["id", "name", "overlay", "user_storage", "memory", "tenant", "number_of_vms", "number_of_dis"],
};

const DI_CREATION: [Field; 3] = creation([&["di.see.creation-date"], &["di.see.created-by"]]);
const DI_TAGS: &[&str] = &[
    "di.see.tags",
    "di.see.default",
    "di.see.head",
    "*.see.di-list-tags",
    "*.see.di-list-default",
    "*.see.di-list-head",
];
const DI_UPDATE_TAGS: &[&str] = &["di.update.tags", "osf.see.di-list-default-update"];

const DI_PROPERTIES: [Nested; 3] = nested_properties(&["di.create.properties"], &["di.update.properties"]);

pub(super) const DI: Entity = Entity {
    object: Object::Di,
    fields: &[
        id(),
        field("disk_image", Kind::Text(4096), "file name").required(),
        field("file", Kind::Text(4096), "file name without the number put before it").hidden().unordered(),
        description(&["di.see.description"], &["di.update.description"]),
        field("version", Kind::Text(64), "version; by default the date and a counter")
            .see(&["di.see.version"])
            .optional(&["di.create.version"]),
        field("osf_id", Kind::Int, "number of its flavour")
            .see(&["di.see.osf"])
            .required()
            .named_by("osf_name"),
        field("osf_name", Kind::Text(64), "its flavour").see(&["di.see.osf"]),
        field("blocked", Kind::Switch, "not used to start VMs")
            .see(&["di.see.block"])
            .optional(&[])
            .updated(&["di.update.block"]),
        field("tags", Kind::Structure, "its tags; a filter asks for one that is among them")
            .see(DI_TAGS)
            .unordered(),
        DI_CREATION[0],
        DI_CREATION[1],
        DI_CREATION[2],
        field("state", Kind::Word(DI_STATES), "new, uploading, verifying, ready, published, fail …")
            .unordered(),
        field("state_ts", Kind::Int, "when the state changed, epoch").unordered(),
        field("elapsed_time", Kind::Int, "seconds that the import took").unordered(),
        field("auto_publish", Kind::Switch, "publish when ready")
            .unordered()
            .optional(&[])
            .updated(&["di.update.auto-publish"]),
        field("foreign_id", Kind::Int, "number in the image generator").unordered(),
        field("expiration_time_soft", Kind::Count, "seconds until VMs are asked to leave after publication")
            .unordered()
            .optional(&[])
            .updated(&["di.update.vms-expiration"]),
        field("expiration_time_hard", Kind::Count, "seconds until VMs are restarted after publication")
            .unordered()
            .optional(&[])
            .updated(&["di.update.vms-expiration"]),
        field("percentage", Kind::Real, "progress of the import, 0 to 1").unordered(),
        field("error_code", Kind::Int, "why the import failed, a status").unordered(),
        field("status_message", Kind::Text(32768), "why the import failed").unordered(),
        field("sha256", Kind::Text(64), "checksum of the file").unordered(),
        field("size", Kind::Real, "bytes of the file").unordered(),
        field(
            "format",
            Kind::Text(16),
            "what the file is: tar, tar.gz, tar.bz2, tar.xz, tar.zst, qcow2 or raw",
        )
        .unordered(),
        field("unpacked_size", Kind::Real, "bytes that it unpacks to").unordered(),
        field("remarks", Kind::Text(32768), "what was noticed when it came in").unordered(),
        TENANT_ID,
        TENANT_NAME,
        stored_properties(&["di.see.properties"]),
    ],
    aliases: &[
        ("name", "disk_image"),
        ("path", "disk_image"),
        ("image", "disk_image"),
        ("osf", "osf_name"),
        ("tag", "tags"),
        ("tenant", "tenant_name"),
    ],
    nested: &[
        DI_PROPERTIES[0],
        DI_PROPERTIES[1],
        DI_PROPERTIES[2],
        Nested {
            name: "__tags__",
            verb: Verb::Create,
            change: Change::AddTags,
            acls: &["di.create.tags", "di.create.default"],
        },
        Nested {
            name: "__tags_changes__delete",
            verb: Verb::Update,
            change: Change::RemoveTags,
            acls: DI_UPDATE_TAGS,
        },
        Nested {
            name: "__tags_changes__create",
            verb: Verb::Update,
            change: Change::AddTags,
            acls: DI_UPDATE_TAGS,
        },
    ],
    tenancy: Tenancy::Inherited,
    key: "disk_image",
    selectors: &[],
    columns: &["id", "tenant", "name", "version", "osf", "blocked", "tags", "state"],
};

pub(super) const TAG: Entity = Entity {
    object: Object::Tag,
    fields: &[
        field("osf_id", Kind::Int, "number of its flavour"),
        field("di_id", Kind::Int, "number of its image"),
        field("name", Kind::Text(1024), "the tag"),
        id(),
        TENANT_ID,
        TENANT_NAME,
    ],
    aliases: &[("tenant", "tenant_name")],
    nested: &[],
    tenancy: Tenancy::Inherited,
    key: "name",
    selectors: &[],
    columns: &["id", "name", "di_id", "osf_id"],
};

const TENANT_CREATION: [Field; 3] = creation([&["tenant.see.creation-date"], &["tenant.see.created-by"]]);
pub(super) const LANGUAGES: Kind = Kind::Word(&["es", "en", "auto", "default"]);

pub(super) const TENANT: Entity = Entity {
    object: Object::Tenant,
    fields: &[
        id(),
        field("name", Kind::Login(80), "name").required().updated(&["tenant.update.name"]),
        description(&["tenant.see.description"], &["tenant.update.description"]),
        field("language", LANGUAGES, "language of its administrators: es, en or auto")
            .see(&["tenant.see.language"])
            .optional(&[])
            .updated(&["tenant.update.language"]),
        field("block", Kind::Count, "rows on a page of the web console")
            .see(&["tenant.see.blocksize"])
            .optional(&[])
            .updated(&["tenant.update.blocksize"]),
        field("blocked", Kind::Switch, "nobody of it may enter")
            .see(&["tenant.see.block"])
            .optional(&[])
            .updated(&["tenant.update.block"]),
        TENANT_CREATION[0],
        TENANT_CREATION[1],
        TENANT_CREATION[2],
    ],
    aliases: &[],
    nested: &[],
    tenancy: Tenancy::Itself,
    key: "name",
    selectors: &[],
    columns: &["id", "name", "language", "block", "blocked"],
};

const ADMIN_CREATION: [Field; 3] =
    creation([&["administrator.see.creation-date"], &["administrator.see.created-by"]]);

pub(super) const ADMINISTRATOR: Entity = Entity {
    object: Object::Administrator,
    fields: &[
        id(),
        field("name", Kind::Login(64), "login").required().updated(&["administrator.update.*"]),
        description(&["administrator.see.description"], &["administrator.update.description"]),
        field("roles", Kind::Structure, "roles held").see(&["administrator.see.roles"]).only_shown(),
        field("language", LANGUAGES, "language: es, en, auto or default")
            .see(&["administrator.see.language"])
            .optional(&["administrator.create.language"])
            .updated(&["administrator.update.language"]),
        field("block", Kind::Count, "rows on a page of the web console")
            .optional(&[])
            .updated(&["administrator.update.*"]),
        ADMIN_CREATION[0],
        ADMIN_CREATION[1],
        ADMIN_CREATION[2],
        OWN_TENANT_ID,
        TENANT_NAME,
        field("password", Kind::Password, "password; never shown")
            .hidden()
            .only_shown()
            .required()
            .updated(&["administrator.update.password"]),
    ],
    aliases: &[("login", "name"), ("passwd", "password"), ("tenant", "tenant_name")],
    nested: super::roles::HELD_ROLES,
    tenancy: Tenancy::Own,
    key: "name",
    selectors: &[],
    columns: &["id", "tenant", "name", "language", "block"],
};

pub(super) const OWN_ADMINISTRATOR: Entity = Entity {
    object: Object::OwnAdministrator,
    fields: &[
        id().hidden().only_shown(),
        field("description", Kind::Text(32768), "free text").updated(&[]),
        field("language", LANGUAGES, "language: es, en, auto or default").updated(&[]),
        field("block", Kind::Count, "rows on a page of the web console").updated(&[]),
        field("password", Kind::Password, "password; never shown").hidden().only_shown().updated(&[]),
    ],
    aliases: &[("passwd", "password")],
    nested: &[],
    tenancy: Tenancy::None,
    key: "id",
    selectors: &[],
    columns: &[],
};

pub(super) const CONFIG: Entity = Entity {
    object: Object::Config,
    fields: &[
        field("tenant_id", Kind::Int, "tenant it is set for; -1 for all").required().named_by("tenant_name"),
        field("key", Kind::Text(64), "name of the setting").required(),
        field("operative_value", Kind::Text(4096), "value in force"),
        field("default_value", Kind::Text(4096), "value without the setting of this tenant"),
        field("is_default", Kind::Switch, "not set for this tenant"),
        field("tenant_name", Kind::Login(80), "tenant it is set for").for_super(),
        field("value", Kind::Text(4096), "new value").hidden().only_shown().required().updated(&[]),
    ],
    aliases: &[("name", "key"), ("default", "default_value"), ("tenant", "tenant_name")],
    nested: &[],
    tenancy: Tenancy::Own,
    key: "key",
    selectors: &["key", "tenant_name"],
    columns: &["key", "value", "default", "is_default"],
};

pub(super) const EVENT: Entity = Entity {
    object: Object::Event,
    fields: &[
        field("id", Kind::Real, "number"),
        field("time", Kind::Moment, "when"),
        field("kind", Kind::Text(32), "kind of object"),
        field("object_id", Kind::Int, "number of the object"),
        field("object_name", Kind::Text(4096), "name of the object at that time"),
        field("actor", Kind::Text(128), "who did it"),
        field("from_state", Kind::Text(32), "state before"),
        field("to_state", Kind::Text(32), "state after"),
        field("code", Kind::Text(64), "why, in a word"),
        field("text", Kind::Text(32768), "why"),
        TENANT_ID,
    ],
    aliases: &[],
    nested: &[],
    tenancy: Tenancy::Inherited,
    key: "object_name",
    selectors: &[],
    columns: &["time", "actor", "from_state", "to_state", "code", "text"],
};
