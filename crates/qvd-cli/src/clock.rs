//! The present, and the time zone of whoever sits here.

use std::sync::LazyLock;

use qvd_model::expiry::{self, Expiry, Now};
use qvd_runtime::zone::Zone;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

use crate::error::Error;

const WIRE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const SHOWN: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

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

fn moment(text: &str) -> Result<Option<PrimitiveDateTime>, Error> {
    let utc = utc();
    let now = Now { utc, local: ZONE.wall_clock(utc) };
    Ok(match expiry::parse(text, now).map_err(|e| Error::Usage(e.to_string()))? {
        Expiry::Never => None,
        Expiry::Utc(moment) => Some(moment),
        Expiry::Local(local) => Some(ZONE.moment(local)),
    })
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
    fn what_is_sent_is_shown_again() {
        assert_eq!(absolute("2030-01-31T10:00:00Z").unwrap(), "2030-01-31T10:00:00Z");
        assert_eq!(absolute("never").unwrap(), "");
        assert!(absolute("some day").is_err());
        let local = shown("2030-01-31T10:00:00");
        let (clock, _) = local.rsplit_once(' ').unwrap();
        assert_eq!(absolute(clock).unwrap(), "2030-01-31T10:00:00Z");
        assert_eq!(shown("soon"), "soon");
    }
}
