//! When a VM expires, as people write it: the times of at(1), ISO 8601, and `+2h` (`spec/cli.md` 1.11).
//!
//! Pure: the present is an argument, in UTC and on the wall clock of whoever wrote the text. What depends on
//! that clock comes back as [`Expiry::Local`], because only the time zone's table knows which instant it is.

use time::{Date, Duration, Month, PrimitiveDateTime, Time, Weekday};

/// A moment, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It does not expire.
    Never,
    /// At this moment in UTC.
    Utc(PrimitiveDateTime),
    /// When the writer's wall clock shows this.
    Local(PrimitiveDateTime),
}

/// The present.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// In UTC.
    pub utc: PrimitiveDateTime,
    /// On the wall clock of whoever wrote the text.
    pub local: PrimitiveDateTime,
}

/// A text that is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no time; write for example now, 'now + 2 hours', 17:30, '5pm tomorrow', 'noon jan 31', \
     2026-01-31T17:30, or never"
)]
pub struct InvalidExpiry(String);

/// Longer texts are no times.
const MAX_LENGTH: usize = 128;
/// No expiry lies further ahead: a hundred years.
const MAX_AHEAD: Duration = Duration::days(36_525);

/// Reads a time. Hours and minutes are counted on the clock that never jumps; days keep the time of day.
pub fn parse(text: &str, now: Now) -> Result<Expiry, InvalidExpiry> {
    let wrong = || InvalidExpiry(text.chars().take(80).collect());
    if text.len() > MAX_LENGTH {
        return Err(wrong());
    }
    let lower = text.trim().to_ascii_lowercase();
    if matches!(lower.as_str(), "" | "never" | "none") {
        return Ok(Expiry::Never);
    }
    if let Some(moment) = iso(&lower) {
        return Ok(moment);
    }
    at(&lower, now).ok_or_else(wrong)
}

/// `2026-01-31[T17:30[:05[.5]][Z|+01:00]]`, with `T` or a blank.
fn iso(text: &str) -> Option<Expiry> {
    let (date, rest) = text.split_at_checked(10)?;
    let date = dashed(date)?;
    let Some(clock) = rest.strip_prefix(['t', ' ']) else {
        return rest.is_empty().then_some(Expiry::Local(date.midnight()));
    };
    let (clock, offset) = match clock.find(['z', '+', '-']) {
        Some(at) => (clock.get(..at)?, clock.get(at..)?),
        None => (clock, ""),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    fraction.bytes().all(|b| b.is_ascii_digit()).then_some(())?;
    let mut parts = clock.split(':').map(|part| digits(part, 2));
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    if parts.next().is_some() {
        return None;
    }
    let moment = date.with_time(time_of(hour, minute, second)?);
    match offset {
        "" => Some(Expiry::Local(moment)),
        "z" => Some(Expiry::Utc(moment)),
        _ => {
            let (sign, rest) = offset.split_at_checked(1)?;
            let (hours, minutes) = rest.split_once(':').unwrap_or(rest.split_at_checked(2)?);
            let minutes = if minutes.is_empty() { 0 } else { digits(minutes, 2)? };
            let ahead = Duration::minutes(i64::from(digits(hours, 2)? * 60 + minutes));
            (ahead < Duration::days(1)).then_some(())?;
            let moment = if sign == "-" { moment.checked_add(ahead) } else { moment.checked_sub(ahead) };
            Some(Expiry::Utc(moment?))
        }
    }
}

/// `[TIME] [DATE] [+ N UNIT …]`
fn at(text: &str, now: Now) -> Option<Expiry> {
    let (base, increments) = match text.split_once('+') {
        Some((base, increments)) => (base.trim(), Some(increments)),
        None => (text, None),
    };
    let (exact, days) = increments.map_or(Some((Duration::ZERO, Duration::ZERO)), increment)?;
    if base.is_empty() || base == "now" {
        return if days.is_zero() {
            now.utc.checked_add(exact).map(Expiry::Utc)
        } else {
            now.local.checked_add(days)?.checked_add(exact).map(Expiry::Local)
        };
    }
    let words: Vec<&str> = base.split_whitespace().collect();
    let (clock, used) = clock(&words)?;
    let date = match words.get(used..)? {
        [] if clock.is_some() => None,
        [] => return None,
        date => Some(day(date, now.local.date())?),
    };
    let moment = match (date, clock) {
        (Some(date), clock) => date.with_time(clock.unwrap_or_else(|| now.local.time())),
        (None, clock) => {
            let today = now.local.replace_time(clock?);
            if today <= now.local { today.checked_add(Duration::days(1))? } else { today }
        }
    };
    moment.checked_add(days)?.checked_add(exact).map(Expiry::Local)
}

/// `2 hours`, `2h`, `1 week 3 days`: what is counted exactly, and whole days.
fn increment(text: &str) -> Option<(Duration, Duration)> {
    let mut rest = text.trim();
    let (mut exact, mut days) = (Duration::ZERO, Duration::ZERO);
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: i64 = rest.get(..end)?.parse().ok()?;
        let tail = rest.get(end..)?.trim_start();
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let unit = match tail.get(..end)? {
            "m" | "min" | "mins" | "minute" | "minutes" => Duration::MINUTE,
            "h" | "hour" | "hours" => Duration::HOUR,
            "d" | "day" | "days" => Duration::DAY,
            "w" | "week" | "weeks" => Duration::WEEK,
            _ => return None,
        };
        let span = Duration::seconds(unit.whole_seconds().checked_mul(count)?);
        let sum = if unit < Duration::DAY { &mut exact } else { &mut days };
        *sum = sum.checked_add(span).filter(|s| *s <= MAX_AHEAD)?;
        rest = tail.get(end..)?.trim_start();
        if rest.is_empty() {
            return Some((exact, days));
        }
    }
}

/// The time at the beginning, if there is one, and how many words it took.
fn clock(words: &[&str]) -> Option<(Option<Time>, usize)> {
    let first = *words.first()?;
    let named = match first {
        "midnight" => Some(0),
        "noon" => Some(12),
        "teatime" => Some(16),
        _ => None,
    };
    if let Some(hour) = named {
        return Some((Some(time_of(hour, 0, 0)?), 1));
    }
    let split = first.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(first.len());
    let (number, glued) = first.split_at(split);
    let (suffix, used) = match (glued, words.get(1)) {
        ("", Some(suffix @ (&"am" | &"pm"))) => (*suffix, 2),
        (glued, _) => (glued, 1),
    };
    let half = match suffix {
        "" => None,
        "am" => Some(0),
        "pm" => Some(12),
        _ => return Some((None, 0)),
    };
    let (hour, minute) = match number.split_once(':') {
        Some((hour, minute)) if hour.len() <= 2 => (hour.parse().ok()?, digits(minute, 2)?),
        Some(_) => return None,
        None if number.len() == 4 => (digits(number.get(..2)?, 2)?, digits(number.get(2..)?, 2)?),
        // A bare `5` would be a time to at(1); a bare `2026` or `13` is more often a slip.
        None if number.len() <= 2 && half.is_some() => (number.parse().ok()?, 0),
        None => return Some((None, 0)),
    };
    let hour = match half {
        None => hour,
        Some(_) if hour == 0 || hour > 12 => return None,
        Some(half) => hour % 12 + half,
    };
    Some((Some(time_of(hour, minute, 0)?), used))
}

/// A date: a word, a month with its day, or digits with signs.
fn day(words: &[&str], today: Date) -> Option<Date> {
    match *words {
        ["today"] => Some(today),
        ["tomorrow"] => today.next_day(),
        [one] => weekday(one, today).or_else(|| numeric(one)),
        [name, day] => {
            let (month, day) = (month(name)?, day.trim_end_matches(',').parse().ok()?);
            let this_year = Date::from_calendar_date(today.year(), month, day).ok();
            match this_year {
                Some(date) if date >= today => Some(date),
                _ => Date::from_calendar_date(today.year() + 1, month, day).ok(),
            }
        }
        [name, day, year] => {
            let day = day.trim_end_matches(',').parse().ok()?;
            Date::from_calendar_date(i32::from(digits(year, 4)?), month(name)?, day).ok()
        }
        _ => None,
    }
}

fn numeric(text: &str) -> Option<Date> {
    let three = |sign: char| -> Option<[&str; 3]> { text.split(sign).collect::<Vec<_>>().try_into().ok() };
    if let Some([month, day, year]) = three('/') {
        return dated(year, month, day);
    }
    if let Some([day, month, year]) = three('.') {
        return dated(year, month, day);
    }
    if text.contains('-') {
        return dashed(text);
    }
    // MMDDYY or MMDDCCYY
    matches!(text.len(), 6 | 8).then_some(())?;
    dated(text.get(4..)?, text.get(..2)?, text.get(2..4)?)
}

/// `[CC]YY-MM-DD`
fn dashed(text: &str) -> Option<Date> {
    let [year, month, day]: [&str; 3] = text.split('-').collect::<Vec<_>>().try_into().ok()?;
    dated(year, month, day)
}

fn dated(year: &str, month: &str, day: &str) -> Option<Date> {
    let year = match year.len() {
        2 => 2000 + digits(year, 2)?,
        _ => digits(year, 4)?,
    };
    let small = |text: &str| (text.len() <= 2).then(|| text.parse::<u8>().ok()).flatten();
    Date::from_calendar_date(i32::from(year), Month::try_from(small(month)?).ok()?, small(day)?).ok()
}

fn month(name: &str) -> Option<Month> {
    let mut month = Month::January;
    for _ in 0..12 {
        if named(name, &month.to_string()) {
            return Some(month);
        }
        month = month.next();
    }
    None
}

/// The next day of this name; today if it is one.
fn weekday(name: &str, today: Date) -> Option<Date> {
    let mut date = today;
    for _ in 0..7 {
        let day: Weekday = date.weekday();
        if named(name, &day.to_string()) {
            return Some(date);
        }
        date = date.next_day()?;
    }
    None
}

/// The whole name, or its first three letters.
fn named(written: &str, name: &str) -> bool {
    written.eq_ignore_ascii_case(name)
        || name.get(..3).is_some_and(|short| written.eq_ignore_ascii_case(short))
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<u16> {
    (text.len() == count && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

fn time_of(hour: u16, minute: u16, second: u16) -> Option<Time> {
    let small = |n: u16| u8::try_from(n).ok();
    Time::from_hms(small(hour)?, small(minute)?, small(second)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    /// A Tuesday; the clock on the wall is an hour ahead.
    const NOW: Now = Now { utc: datetime!(2026-11-24 21:40), local: datetime!(2026-11-24 22:40) };

    #[test]
    fn times_of_at() {
        for (written, meant) in [
            ("23:15", datetime!(2026-11-24 23:15)),
            ("2315", datetime!(2026-11-24 23:15)),
            ("08:00", datetime!(2026-11-25 08:00)),
            ("8:30am", datetime!(2026-11-25 08:30)),
            ("5pm", datetime!(2026-11-25 17:00)),
            ("12am", datetime!(2026-11-25 00:00)),
            ("12 PM today", datetime!(2026-11-24 12:00)),
            ("midnight", datetime!(2026-11-25 00:00)),
            ("noon", datetime!(2026-11-25 12:00)),
            ("teatime tomorrow", datetime!(2026-11-25 16:00)),
            ("tomorrow", datetime!(2026-11-25 22:40)),
            ("today", datetime!(2026-11-24 22:40)),
            ("noon jan 31", datetime!(2027-01-31 12:00)),
            ("noon January 31 2028", datetime!(2028-01-31 12:00)),
            ("1000 013127", datetime!(2027-01-31 10:00)),
            ("1000 01312027", datetime!(2027-01-31 10:00)),
            ("10:00 01/31/27", datetime!(2027-01-31 10:00)),
            ("10:00 31.01.2027", datetime!(2027-01-31 10:00)),
            ("10:00 27-01-31", datetime!(2027-01-31 10:00)),
            ("friday", datetime!(2026-11-27 22:40)),
            ("now + 2 days", datetime!(2026-11-26 22:40)),
            ("now+1week", datetime!(2026-12-01 22:40)),
            ("noon + 2 days", datetime!(2026-11-27 12:00)),
            ("2026-12-01", datetime!(2026-12-01 00:00)),
            ("2026-12-01 10:30", datetime!(2026-12-01 10:30)),
            ("2026-12-01T10:30:05", datetime!(2026-12-01 10:30:05)),
        ] {
            assert_eq!(parse(written, NOW), Ok(Expiry::Local(meant)), "{written}");
        }
    }

    #[test]
    fn exact_times() {
        for (written, meant) in [
            ("now", datetime!(2026-11-24 21:40)),
            ("NOW + 90 minutes", datetime!(2026-11-24 23:10)),
            ("+2h", datetime!(2026-11-24 23:40)),
            ("+1h 30m", datetime!(2026-11-24 23:10)),
            ("2026-12-01T10:30:00Z", datetime!(2026-12-01 10:30)),
            ("2026-12-01T10:30:00.123Z", datetime!(2026-12-01 10:30)),
            ("2026-12-01T10:30+02:00", datetime!(2026-12-01 08:30)),
            ("2026-12-01 10:30-0130", datetime!(2026-12-01 12:00)),
        ] {
            assert_eq!(parse(written, NOW), Ok(Expiry::Utc(meant)), "{written}");
        }
        for none in ["", "never", "None"] {
            assert_eq!(parse(none, NOW), Ok(Expiry::Never), "{none}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "soon",
            "25:00",
            "13pm",
            "0am",
            "5",
            "now - 1 hour",
            "now + 1 month",
            "now +",
            "2026-02-30",
            "noon feb 30",
            "99999999999999999999 days",
            "+99999999999999999999d",
            "+999999999999d",
            "2026-12-01T10:30+99:00",
            "日本",
        ] {
            assert!(parse(text, NOW).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_fail(text: String, times in "[0-9a-z+:/. -]{0,24}") {
            let _ = parse(&text, NOW);
            let _ = parse(&times, NOW);
        }
    }
}
