//! The present, and the time zone of whoever sits here.

use std::sync::LazyLock;

use qvd_model::action::Kind;
use qvd_model::expiry::{self, Expiry, Now};
use qvd_runtime::zone::Zone;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

use crate::error::Error;

const WIRE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const SHOWN: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

const ASCTIME: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short] [month repr:short] [day padding:space] [hour]:[minute]:[second] [year]"
);

/// Like the C library, UTC where the system has no table.
static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let name = std::env::var("TZ").unwrap_or_default();
    Zone::named(name.trim_start_matches(':')).unwrap_or_else(|_| Zone::utc())
});

fn utc() -> PrimitiveDateTime {
    let now = OffsetDateTime::now_utc();
    PrimitiveDateTime::new(now.date(), now.time())
}

/// The seconds from now to a time as people write it; 0 if it is past.
pub(crate) fn seconds_until(text: &str) -> Result<i64, Error> {
    let Some(moment) = moment(text)? else {
        return Err(Error::Usage("a time is needed, such as 'now + 2 hours'".to_owned()));
    };
    Ok((moment - utc()).whole_seconds().max(0))
}

/// A time as people write it, as the moment in UTC that the API is sent; empty for none.
pub(crate) fn absolute(text: &str) -> Result<String, Error> {
    match moment(text)? {
        None => Ok(String::new()),
        Some(moment) => moment.format(WIRE).map_err(|e| Error::Usage(format!("`{text}`: {e}"))),
    }
}

/// A time that a selection compares with: as the API writes it, as people write it, or `2 hours ago`.
pub(crate) fn compared(text: &str) -> Result<String, Error> {
    if Kind::Moment.canonical(text).is_ok() || text.contains(['%', '_']) {
        return Ok(text.to_owned());
    }
    match text.trim().strip_suffix("ago") {
        None => absolute(text),
        Some(span) => {
            let wrong = || Error::Usage(format!("`{text}` is not a time such as `2 hours ago`"));
            let span = ago(span.trim()).ok_or_else(wrong)?;
            let then = utc().checked_sub(span).ok_or_else(wrong)?;
            then.format(WIRE).map_err(|_| wrong())
        }
    }
}

/// `2 hours`
fn ago(span: &str) -> Option<Duration> {
    let (number, unit) = span.split_once(' ')?;
    let seconds = match unit.trim().trim_end_matches('s') {
        "second" => 1,
        "minute" | "min" => 60,
        "hour" => 3600,
        "day" => 86_400,
        "week" => 604_800,
        _ => return None,
    };
    Some(Duration::seconds(number.parse::<i64>().ok()?.checked_mul(seconds)?))
}

fn moment(text: &str) -> Result<Option<PrimitiveDateTime>, Error> {
    let utc = utc();
    let now = Now { utc, local: ZONE.wall_clock(utc) };
    Ok(match expiry::parse(text, now).map_err(|e| Error::Usage(e.to_string()))? {
        Expiry::Never => None,
        Expiry::Utc(moment) => Some(moment),
        Expiry::Local(local) => Some(ZONE.moment(local)),
    })
}

/// The moment that the API calls its time: in the layout of C's `asctime`, UTC.
pub(crate) fn utc_of(text: &str) -> Option<OffsetDateTime> {
    let read = PrimitiveDateTime::parse(text, ASCTIME).ok()?;
    Some(read.assume_utc())
}

/// A moment of the API on the wall clock here, with its zone; other texts stay as they are.
pub(crate) fn shown(text: &str) -> String {
    let wire = text.trim_end_matches('Z').replacen('T', " ", 1);
    let (wire, _) = wire.split_once('.').unwrap_or((&wire, ""));
    let Ok(utc) = PrimitiveDateTime::parse(wire, SHOWN) else { return text.to_owned() };
    match ZONE.wall_clock(utc).format(SHOWN) {
        Ok(local) => format!("{local} {}", ZONE.designation(utc)),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_compare_with_times_of_people() {
        for kept in ["2030-01-31", "2030-01-31T10:00:00", "2030-01-%"] {
            assert_eq!(compared(kept).unwrap(), kept);
        }
        let hours = |text: &str| {
            let then = utc_of_wire(&compared(text).unwrap());
            (OffsetDateTime::now_utc() - then).whole_minutes() / 60
        };
        assert_eq!(hours("2 hours ago"), 2);
        assert_eq!(hours("1 week ago"), 168);
        assert_eq!(hours("now"), 0);
        for bad in ["some ago", "2 moons ago", "9999999999999999 days ago", "soon"] {
            assert!(compared(bad).is_err(), "{bad}");
        }
    }

    fn utc_of_wire(text: &str) -> OffsetDateTime {
        PrimitiveDateTime::parse(text, WIRE).unwrap().assume_utc()
    }

    #[test]
    fn what_is_sent_is_shown_again() {
        assert_eq!(absolute("2030-01-31T10:00:00Z").unwrap(), "2030-01-31T10:00:00Z");
        assert_eq!(absolute("never").unwrap(), "");
        assert!(absolute("some day").is_err());
        let local = shown("2030-01-31T10:00:00");
        let (clock, _) = local.rsplit_once(' ').unwrap();
        assert_eq!(absolute(clock).unwrap(), "2030-01-31T10:00:00Z");
        assert_eq!(shown("soon"), "soon");
        let told = utc_of("Thu Jan  3 10:00:07 2030").unwrap();
        assert_eq!(told.unix_timestamp(), 1_893_664_807);
        assert!(utc_of("soon").is_none());
    }
}
