//! One field of an object: its type, where it may be used, and by whom.

use std::fmt::Write as _;

use super::Order;

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number; shown as a number.
    Int,
    /// A whole number of 0 or more.
    Count,
    /// Shown as 0 or 1, never as a JSON boolean: old clients do arithmetic with it.
    Switch,
    /// Text of at most so many characters.
    Text(usize),
    /// Like text; trimmed and, unless configured otherwise, in lower case.
    Login(usize),
    /// A password: hashed, never shown.
    Password,
    /// An IPv4 address.
    Address,
    /// A moment, `YYYY-MM-DDTHH:MM:SS` in UTC.
    Moment,
    /// A number that may have decimals.
    Real,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list or map of its own shape; only shown.
    Structure,
}

/// Who is shown a field in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Whoever has the ACL.
    Always,
    /// Only super-administrators.
    Super,
    /// Nobody: it can be filtered by, or written.
    Never,
}

/// Whether an argument may be given when an object is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No.
    No,
    /// It may.
    Optional,
    /// It must.
    Required,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name on the wire.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One line for people.
    pub help: &'static str,
    /// Who is shown it.
    pub show: Show,
    /// Whether lists can be filtered by it.
    pub filter: bool,
    /// Whether lists can be ordered by it.
    pub order: bool,
    /// One of these ACLs is needed to see it, to filter and to order by it; none if everybody may.
    pub see: &'static [&'static str],
    /// Whether it is an argument of the creation.
    pub create: Access,
    /// One of these ACLs is needed to give it at creation, beside the one of the action.
    pub create_acls: &'static [&'static str],
    /// The ACLs of changing it, one of which is needed; `None` if it cannot be changed.
    pub update: Option<&'static [&'static str]>,
    /// Orders that have to come with it.
    pub orders: &'static [Order],
    /// For an id: the field by whose value it can be given instead.
    pub named_by: Option<&'static str>,
}

/// Why a value does not fit a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {expected}")]
pub struct InvalidArgument {
    /// The value, shortened.
    pub value: String,
    /// What it should have been.
    pub expected: String,
}

impl Field {
    /// A field that is listed, filtered and ordered by, and that nobody writes.
    pub(super) const fn new(name: &'static str, kind: Kind, help: &'static str) -> Self {
        Self {
            name,
            kind,
            help,
            show: Show::Always,
            filter: true,
            order: true,
            see: &[],
            create: Access::No,
            create_acls: &[],
            update: None,
            orders: &[],
            named_by: None,
        }
    }

    /// Seen only with one of these ACLs.
    pub(super) const fn see(mut self, acls: &'static [&'static str]) -> Self {
        self.see = acls;
        self
    }

    /// Shown to super-administrators only.
    pub(super) const fn for_super(mut self) -> Self {
        self.show = Show::Super;
        self
    }

    /// Never shown.
    pub(super) const fn hidden(mut self) -> Self {
        self.show = Show::Never;
        self
    }

    /// Neither filtered nor ordered by.
    pub(super) const fn only_shown(mut self) -> Self {
        self.filter = false;
        self.order = false;
        self
    }

    /// Not filtered by in lists.
    pub(super) const fn unfiltered(mut self) -> Self {
        self.filter = false;
        self
    }

    /// Not ordered by.
    pub(super) const fn unordered(mut self) -> Self {
        self.order = false;
        self
    }

    /// A mandatory argument of the creation.
    pub(super) const fn required(mut self) -> Self {
        self.create = Access::Required;
        self
    }

    /// A possible argument of the creation, with one of these ACLs.
    pub(super) const fn optional(mut self, acls: &'static [&'static str]) -> Self {
        self.create = Access::Optional;
        self.create_acls = acls;
        self
    }

    /// Can be changed with one of these ACLs.
    pub(super) const fn updated(mut self, acls: &'static [&'static str]) -> Self {
        self.update = Some(acls);
        self
    }

    /// Has to come with these orders.
    pub(super) const fn with_orders(mut self, orders: &'static [Order]) -> Self {
        self.orders = orders;
        self
    }

    /// An id that can be given by the value of another field.
    pub(super) const fn named_by(mut self, name: &'static str) -> Self {
        self.named_by = Some(name);
        self
    }
}

impl Kind {
    /// Checks a value and writes it the one way that the database is given it.
    pub fn canonical(self, value: &str) -> Result<String, InvalidArgument> {
        let fail = || InvalidArgument { value: value.chars().take(80).collect(), expected: self.describe() };
        if value.contains('\0') {
            return Err(fail());
        }
        let text = match self {
            Self::Int => value.trim().parse::<i32>().map(|n| n.to_string()).ok(),
            Self::Count => value.trim().parse::<i32>().ok().filter(|n| *n >= 0).map(|n| n.to_string()),
            Self::Real => value.trim().parse::<f64>().ok().filter(|n| n.is_finite()).map(|n| n.to_string()),
            Self::Switch => switch(value).map(|on| on.to_string()),
            Self::Text(max) | Self::Login(max) => (value.chars().count() <= max).then(|| value.to_owned()),
            Self::Password => (!value.is_empty() && value.len() <= 1024).then(|| value.to_owned()),
            Self::Address => value.trim().parse::<std::net::Ipv4Addr>().map(|a| a.to_string()).ok(),
            Self::Moment => moment(value),
            Self::Word(words) => words.contains(&value).then(|| value.to_owned()),
            // Nobody gives one; a filter compares the texts in it.
            Self::Structure => Some(value.to_owned()),
        };
        text.ok_or_else(fail)
    }

    /// The type in words, with its article.
    pub fn describe(self) -> String {
        match self {
            Self::Int => "a whole number".to_owned(),
            Self::Count => "a whole number of 0 or more".to_owned(),
            Self::Real => "a number".to_owned(),
            Self::Switch => "a switch (1 or 0)".to_owned(),
            Self::Text(max) | Self::Login(max) => format!("a text of at most {max} characters"),
            Self::Password => "a password of 1 to 1024 bytes".to_owned(),
            Self::Address => "an IPv4 address".to_owned(),
            Self::Moment => "a moment such as 2026-01-31T14:05:00 (UTC)".to_owned(),
            Self::Word(words) => format!("one of {}", words.join(", ")),
            Self::Structure => "several values".to_owned(),
        }
    }

    /// Whether `~` compares the value as it is; other types are compared by their text form.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Text(_) | Self::Login(_) | Self::Address | Self::Word(_))
    }
}

/// The spellings of a switch.
fn switch(value: &str) -> Option<bool> {
    match value.trim() {
        "1" | "true" | "t" | "yes" | "on" => Some(true),
        "0" | "false" | "f" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// `YYYY-MM-DD`, optionally with `T` or a blank and `HH:MM[:SS[.fraction]]`, to PostgreSQL's spelling.
fn moment(value: &str) -> Option<String> {
    let value = value.trim();
    let (date, clock) = value.split_once(['T', ' ']).unwrap_or((value, "00:00:00"));
    let clock = clock.strip_suffix('Z').unwrap_or(clock);
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let numbers = |text: &str, sign: char, widths: &[usize]| -> Option<Vec<u16>> {
        let parts: Vec<&str> = text.split(sign).collect();
        let fits = parts.len() == widths.len() && parts.iter().zip(widths).all(|(p, w)| p.len() == *w);
        let digits = parts.iter().all(|p| p.bytes().all(|b| b.is_ascii_digit()));
        (fits && digits).then(|| parts.iter().filter_map(|p| p.parse().ok()).collect())
    };
    let date_parts = numbers(date, '-', &[4, 2, 2])?;
    let clock_parts = numbers(clock, ':', &[2, 2, 2]).or_else(|| numbers(clock, ':', &[2, 2]))?;
    let &[year, month, day] = date_parts.as_slice() else { return None };
    let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    time::Date::from_calendar_date(i32::from(year), month, u8::try_from(day).ok()?).ok()?;
    let (hour, minute) = (*clock_parts.first()?, *clock_parts.get(1)?);
    let second = clock_parts.get(2).copied().unwrap_or(0);
    if hour > 23 || minute > 59 || second > 59 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let mut text = format!("{date} {hour:02}:{minute:02}:{second:02}");
    if !fraction.is_empty() {
        // Writing to a string cannot fail.
        let _ = write!(text, ".{}", fraction.get(..fraction.len().min(6)).unwrap_or_default());
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_checked_and_written_one_way() {
        assert_eq!(Kind::Int.canonical(" 7 ").unwrap(), "7");
        assert_eq!(Kind::Switch.canonical("yes").unwrap(), "true");
        assert_eq!(Kind::Moment.canonical("2026-01-31").unwrap(), "2026-01-31 00:00:00");
        assert_eq!(Kind::Moment.canonical("2026-01-31T14:05:00.5Z").unwrap(), "2026-01-31 14:05:00.5");
        assert_eq!(Kind::Text(3).canonical("äöü").unwrap(), "äöü");
        for (kind, bad) in [
            (Kind::Count, "-1"),
            (Kind::Int, "4294967296"),
            (Kind::Text(3), "abcd"),
            (Kind::Text(9), "a\0b"),
            (Kind::Moment, "2026-02-30"),
            (Kind::Moment, "2026-02-03T24:00"),
            (Kind::Moment, "now"),
            (Kind::Real, "NaN"),
            (Kind::Address, "1.2.3"),
            (Kind::Password, ""),
        ] {
            assert!(kind.canonical(bad).is_err(), "{kind:?} {bad:?}");
        }
        assert_eq!(Kind::Int.canonical("x").unwrap_err().to_string(), "`x` is not a whole number");
    }

    proptest! {
        #[test]
        fn no_value_makes_a_check_fail(value: String) {
            for kind in [Kind::Int, Kind::Count, Kind::Moment, Kind::Real, Kind::Address, Kind::Switch] {
                let _ = kind.canonical(&value);
            }
        }
    }
}
