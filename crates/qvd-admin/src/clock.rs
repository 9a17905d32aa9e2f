//! The clock by which times in requests are read.

use qvd_model::expiry::{self, Expiry, InvalidExpiry, Now};
use qvd_runtime::zone::Zone;
use time::{OffsetDateTime, PrimitiveDateTime};

/// The present, and the zone in which wall clocks are read.
#[derive(Debug, Clone)]
pub struct Clock {
    utc: PrimitiveDateTime,
    zone: Zone,
}

impl Clock {
    /// A clock that shows this moment.
    pub fn at(utc: PrimitiveDateTime, zone: Zone) -> Self {
        Self { utc, zone }
    }

    /// The clock of this machine.
    pub(crate) fn now(zone: Zone) -> Self {
        let now = OffsetDateTime::now_utc();
        Self::at(PrimitiveDateTime::new(now.date(), now.time()), zone)
    }

    /// What a text means, as the database is given it; `None` for never.
    pub(crate) fn moment(&self, text: &str) -> Result<Option<String>, InvalidExpiry> {
        let now = Now { utc: self.utc, local: self.zone.wall_clock(self.utc) };
        let moment = match expiry::parse(text, now)? {
            Expiry::Never => return Ok(None),
            Expiry::Utc(moment) => moment,
            Expiry::Local(local) => self.zone.moment(local),
        };
        let (hour, minute, second) = moment.as_hms();
        Ok(Some(format!("{} {hour:02}:{minute:02}:{second:02}", moment.date())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_the_zone() {
        let date = time::Date::from_calendar_date(2026, time::Month::July, 1).unwrap();
        let noon = PrimitiveDateTime::new(date, time::Time::from_hms(12, 0, 0).unwrap());
        let clock = Clock::at(noon, Zone::named("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        assert_eq!(clock.moment("17:30").unwrap().as_deref(), Some("2026-07-01 15:30:00"));
        assert_eq!(clock.moment("now + 2 hours").unwrap().as_deref(), Some("2026-07-01 14:00:00"));
        assert_eq!(clock.moment("never").unwrap(), None);
        assert!(clock.moment("whenever").is_err());
    }
}
