//! Status codes of the API and the text that people see with them (`spec/api.md` 6.2).

macro_rules! statuses {
    ($($(#[$meta:meta])* $name:ident = $code:literal, $message:literal;)+) => {
        /// The outcome of a request. Numbers are stable; ours are above 9000.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Status { $($(#[$meta])* #[doc = $message] $name,)+ }

        impl Status {
            /// Every status, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Its number on the wire.
            pub const fn code(self) -> u16 {
                match self { $(Self::$name => $code,)+ }
            }

            /// What people read.
            pub const fn message(self) -> &'static str {
                match self { $(Self::$name => $message,)+ }
            }
        }
    };
}

statuses! {
    Done = 0, "Successful completion";
    Internal = 1100, "The server could not do this";
    PartialFailure = 1200, "Some of the selected objects could not be processed";
    NothingMatched = 1300, "No object matches; nothing was changed";
    DatabaseAway = 2100, "The database cannot be reached at the moment; try again";
    CopyFailed = 2210, "The file could not be copied from the staging directory";
    NoSpace = 2211, "The copy is incomplete; there is possibly no space left in the images directory";
    ImagesMissing = 2220, "The images directory cannot be used";
    StagingMissing = 2230, "The staging directory cannot be used";
    NotInStaging = 2240, "The file is not in the staging directory";
    NoFilePart = 2250, "The upload contains no file";
    UploadNotMoved = 2251, "The uploaded file could not be put into the images directory";
    DownloadFailed = 2260, "The file could not be downloaded";
    FetchedNotMoved = 2261, "The downloaded file could not be put into the images directory";
    FileUnreadable = 2270, "The file cannot be read on the server";
    ImageNotFound = 2290, "There is no such disk image";
    NotAuthenticated = 3200, "Login, password or tenant is wrong, or you are not logged in";
    SessionExpired = 3300, "The session has expired; log in again";
    SessionNotExtended = 3400, "The session could not be extended; log in again";
    TenantBlocked = 3500, "The tenant is blocked";
    LogoutFailed = 3600, "The session could not be closed";
    NotConfigured = 3700, "A service that this needs is not configured";
    UnknownAction = 4100, "There is no such action";
    NoAction = 4110, "The request names no action";
    ActionNotAllowed = 4210, "You may not do this";
    FilterNotAllowed = 4220, "You may not filter by this";
    ArgumentNotAllowed = 4230, "You may not set this";
    FieldNotAllowed = 4250, "You may not see this field";
    OrderNotAllowed = 4260, "You may not order by this field";
    NotConnected = 5110, "The user cannot be disconnected in this state";
    NotStoppable = 5120, "The VM cannot be stopped in this state";
    NotStartable = 5130, "The VM cannot be started in this state";
    NoHost = 5140, "No host can take the VM";
    OwnDeletion = 5200, "Administrators cannot delete themselves";
    NotJson = 6100, "The request is not valid JSON";
    UnknownFilter = 6210, "There is no such filter";
    MissingFilter = 6220, "A mandatory filter is missing";
    UnknownArgument = 6230, "There is no such argument";
    UnknownMember = 6231, "A nested operation has no such member";
    MissingArgument = 6240, "A mandatory argument is missing";
    UnknownField = 6250, "There is no such field";
    WrongType = 6310, "A value has the wrong type";
    WrongFilterValue = 6320, "A filter has a value of the wrong type";
    NotOne = 6322, "Exactly one value is needed";
    WrongArgumentValue = 6330, "An argument has a value of the wrong type";
    WrongProperty = 6340, "A property is not acceptable";
    WrongTag = 6350, "A tag is not acceptable";
    WrongAcl = 6360, "There is no such ACL, or numbers and names are mixed";
    WrongRole = 6370, "There is no such role";
    NoValue = 6410, "A value is needed";
    NoTag = 6430, "A tag is needed";
    NoAcl = 6440, "An ACL is needed";
    NoRole = 6450, "A role is needed";
    UnknownDirection = 6600, "The order is neither -asc nor -desc";
    UnknownOrder = 6610, "There is no such field to order by";
    NoSuchService = 6620, "The service is not configured";
    UnknownReference = 7100, "An object that is referred to does not exist";
    ForeignReference = 7110, "An object that is referred to does not exist";
    HasDependents = 7120, "Other objects depend on it";
    Duplicate = 7200, "There is one already";
    PropertyDefined = 7210, "The property is defined already";
    PropertyDefinedAbove = 7211, "The property is defined already for all tenants";
    HostPropertyAssignment = 7212, "Only super-administrators may give hosts properties";
    HostPropertyValue = 7213, "Only super-administrators may set properties of hosts";
    HostPropertyTenant = 7214, "Hosts can only have properties of super-administrators";
    PropertyOfNobody = 7215, "Properties cannot belong to all tenants at once";
    AclAssigned = 7220, "The ACL is assigned already";
    RoleAssigned = 7230, "The role is assigned already";
    TenantsDiffer = 7300, "The user and the OSF belong to different tenants";
    VmNotStopped = 7310, "A VM must be stopped before it is deleted";
    ImageInUse = 7320, "VMs are running this disk image";
    HostRunning = 7321, "A host must be stopped before it is deleted";
    FixedTag = 7330, "The tag is fixed to another disk image of this OSF";
    TagNotRemovable = 7340, "Fixed tags, `head` and `default` cannot be removed, only moved";
    CircularRoles = 7350, "Roles would inherit from each other in a circle";
    SoftAfterHard = 7360, "The soft expiration is later than the hard one";
    SeveralTenants = 7373, "There are several tenants";
    KeyNotDeclared = 7382, "Only super-administrators may add new keys";
    NoDefinition = 7500, "The OSF has no definition in the image generator";
    NotAnImage = 9001, "The file is not a disk image";
    ImageDamaged = 9002, "The disk image is damaged or incomplete";
    TooLarge = 9003, "The request is too large";
    KeyOfFile = 9004, "Only the configuration file may set this key";
    TooManyAttempts = 9005, "Too many failed attempts; wait a little and try again";
    Stale = 9006, "The object was changed meanwhile; read it again";
    NotThisMethod = 9007, "This address does not take this method";
    NotThisType = 9008, "The body has to be JSON, and to say so";
    SecondFactorNeeded = 9009, "A code of the second factor is needed";
    UploadBusy = 9020, "A file of this name is being received for this OSF";
    ChecksumDiffers = 9021, "The file is not the one that was announced";
    UploadUnknown = 9022, "There is no such upload";
    WrongOffset = 9023, "The upload goes on at another place";
    AddressNotAllowed = 9024, "The address may not be downloaded from";
    KeyReused = 9025, "The key belongs to another request";
}

impl Status {
    /// The HTTP status by which `/api/v2` says it (`spec/api.md` 13.2); the older dialect answers 200.
    pub const fn http(self) -> u16 {
        match self {
            Self::Done => 200,
            Self::PartialFailure => 207,
            Self::NoFilePart
            | Self::NoAction
            | Self::NotJson
            | Self::UnknownFilter
            | Self::MissingFilter
            | Self::UnknownArgument
            | Self::UnknownMember
            | Self::MissingArgument
            | Self::UnknownField
            | Self::UnknownDirection
            | Self::UnknownOrder => 400,
            Self::NotAuthenticated | Self::SessionExpired | Self::SecondFactorNeeded => 401,
            Self::TenantBlocked
            | Self::ActionNotAllowed
            | Self::FilterNotAllowed
            | Self::ArgumentNotAllowed
            | Self::FieldNotAllowed
            | Self::OrderNotAllowed
            | Self::OwnDeletion
            | Self::HostPropertyAssignment
            | Self::HostPropertyValue
            | Self::KeyNotDeclared
            | Self::KeyOfFile => 403,
            Self::NothingMatched | Self::ImageNotFound | Self::UnknownAction | Self::UploadUnknown => 404,
            Self::NotThisMethod => 405,
            Self::NotConnected
            | Self::NotStoppable
            | Self::NotStartable
            | Self::HasDependents
            | Self::Duplicate
            | Self::PropertyDefined
            | Self::PropertyDefinedAbove
            | Self::AclAssigned
            | Self::RoleAssigned
            | Self::VmNotStopped
            | Self::ImageInUse
            | Self::HostRunning
            | Self::FixedTag
            | Self::TagNotRemovable
            | Self::CircularRoles
            | Self::SeveralTenants
            | Self::NoDefinition
            | Self::UploadBusy
            | Self::WrongOffset => 409,
            Self::Stale => 412,
            Self::TooLarge => 413,
            Self::NotThisType => 415,
            Self::WrongType
            | Self::WrongFilterValue
            | Self::NotOne
            | Self::WrongArgumentValue
            | Self::WrongProperty
            | Self::WrongTag
            | Self::WrongAcl
            | Self::WrongRole
            | Self::NoValue
            | Self::NoTag
            | Self::NoAcl
            | Self::NoRole
            | Self::UnknownReference
            | Self::ForeignReference
            | Self::HostPropertyTenant
            | Self::PropertyOfNobody
            | Self::TenantsDiffer
            | Self::SoftAfterHard
            | Self::NotInStaging
            | Self::FileUnreadable
            | Self::NotAnImage
            | Self::ImageDamaged
            | Self::ChecksumDiffers
            | Self::AddressNotAllowed
            | Self::KeyReused => 422,
            Self::TooManyAttempts => 429,
            Self::Internal
            | Self::CopyFailed
            | Self::ImagesMissing
            | Self::StagingMissing
            | Self::UploadNotMoved
            | Self::FetchedNotMoved
            | Self::SessionNotExtended
            | Self::LogoutFailed => 500,
            Self::NotConfigured | Self::NoSuchService => 501,
            Self::DownloadFailed => 502,
            Self::DatabaseAway | Self::NoHost => 503,
            Self::NoSpace => 507,
        }
    }

    /// The status of a number.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_sorted() {
        assert!(Status::ALL.windows(2).all(|pair| pair[0].code() < pair[1].code()));
        assert_eq!(Status::from_code(7310), Some(Status::VmNotStopped));
    }
}
