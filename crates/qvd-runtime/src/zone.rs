//! Time zones, from the tables of the system.

use time::{Duration, PrimitiveDateTime};
use tz::timezone::TimeZoneRef;
use tz::{DateTime, TimeZone};

/// A time zone.
#[derive(Debug, Clone)]
pub struct Zone(TimeZone);

/// A time zone that the system does not have.
#[derive(Debug, thiserror::Error)]
#[error("the time zone {name} cannot be read: {problem}")]
pub struct UnknownZone {
    name: String,
    problem: String,
}

impl Zone {
    /// UTC.
    pub fn utc() -> Self {
        Self(TimeZone::utc())
    }

    /// The one that `name` means, as `TZ` would hold it: `Europe/Madrid`, or empty for the system's own.
    pub fn named(name: &str) -> Result<Self, UnknownZone> {
        let zone = if name.is_empty() { TimeZone::local() } else { TimeZone::from_posix_tz(name) };
        zone.map(Self).map_err(|e| UnknownZone { name: name.to_owned(), problem: e.to_string() })
    }

    /// What its wall clocks show at a moment.
    pub fn wall_clock(&self, utc: PrimitiveDateTime) -> PrimitiveDateTime {
        let offset = self.0.find_local_time_type(utc.assume_utc().unix_timestamp()).map(|t| t.ut_offset());
        utc.checked_add(Duration::seconds(offset.unwrap_or(0).into())).unwrap_or(utc)
    }

    /// The moment at which its wall clocks show `local`. Of two, the earlier; a time that the clocks jump over
    /// is read on the clock before the jump.
    pub fn moment(&self, local: PrimitiveDateTime) -> PrimitiveDateTime {
        self.found(self.0.as_ref(), local).unwrap_or(local)
    }

    /// The short name that is in force at a moment, e.g. `CET`.
    pub fn designation(&self, utc: PrimitiveDateTime) -> String {
        let at = utc.assume_utc().unix_timestamp();
        self.0
            .find_local_time_type(at)
            .map_or_else(|_| String::new(), |t| t.time_zone_designation().to_owned())
    }

    fn found(&self, zone: TimeZoneRef<'_>, local: PrimitiveDateTime) -> Option<PrimitiveDateTime> {
        let found = DateTime::find(
            local.year(),
            local.month().into(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second(),
            0,
            zone,
        )
        .ok()?;
        let first = match found.unique() {
            Some(only) => Some(only),
            None => found.earliest(),
        }?;
        let utc = time::OffsetDateTime::from_unix_timestamp(first.unix_time()).ok()?;
        Some(PrimitiveDateTime::new(utc.date(), utc.time()))
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn summer_and_winter_and_the_nights_between() {
        let madrid = Zone::named("Europe/Madrid").unwrap();
        assert_eq!(madrid.wall_clock(datetime!(2026-07-01 10:00)), datetime!(2026-07-01 12:00));
        assert_eq!(madrid.moment(datetime!(2026-07-01 12:00)), datetime!(2026-07-01 10:00));
        assert_eq!(madrid.moment(datetime!(2026-12-01 12:00)), datetime!(2026-12-01 11:00));
        // 02:30 comes twice in October and not at all in March.
        assert_eq!(madrid.moment(datetime!(2026-10-25 02:30)), datetime!(2026-10-25 00:30));
        let jumped = madrid.moment(datetime!(2026-03-29 02:30));
        assert!((datetime!(2026-03-29 00:59)..=datetime!(2026-03-29 01:31)).contains(&jumped), "{jumped}");
        assert_eq!(madrid.designation(datetime!(2026-12-01 11:00)), "CET");
        assert!(Zone::named("No/Where").is_err());
        assert_eq!(Zone::utc().moment(datetime!(2026-07-01 12:00)), datetime!(2026-07-01 12:00));
    }
}
