//! `zinit logs` and `zinit watch`: what services wrote and what happens to them, once or for as
//! long as one looks.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::act::Session;
use super::failure::Failure;
use super::screen::Screen;
use super::{LogsWanted, Since, exit, render};

/// Colours that tell services apart on a dark or a light terminal.
const COLORS: [u8; 6] = [36, 33, 32, 35, 34, 96];

/// Shows lines of output.
pub(super) fn logs(session: &mut Session<'_, '_>, wanted: &LogsWanted) -> Result<u8, Failure> {
    let since = wanted.since.map(|since| since.unix_ms(SystemTime::now()));
    let mut params = json!({ "lines": wanted.lines, "names": wanted.names });
    if let Some(stream) = &wanted.stream {
        params["stream"] = json!(stream);
    }
    if let Some(since) = since {
        params["since"] = json!(since);
    }
    let is_one = wanted.names.len() == 1;
    if !wanted.follow {
        if let [name] = wanted.names.as_slice() {
            params["name"] = json!(name);
            params["names"] = Value::Null;
        }
        let answer = session.client.ask("logs.tail", params)?;
        if session.options.json {
            return session.print(&answer);
        }
        let lines = answer.as_array().map_or(&[] as &[Value], Vec::as_slice);
        if let ([], [name]) = (lines, wanted.names.as_slice()) {
            let text = format!("No logs available for {name}");
            session.screen.line(&text).map_err(Failure::Output)?;
        }
        for line in lines {
            show(session.screen, line, is_one).map_err(Failure::Output)?;
        }
        return Ok(exit::OK);
    }
    follow(session, "logs.follow", params, |screen, method, line| {
        if method == "logs.gap" {
            screen.complain(&format!("({} lines missed)", line["lost"]));
            return Ok(());
        }
        show(screen, line, is_one)
    })
}

/// Shows what happens to services.
pub(super) fn watch(session: &mut Session<'_, '_>, names: &[String]) -> Result<u8, Failure> {
    let params = json!({ "names": names });
    follow(session, "events.follow", params, |screen, method, event| {
        let text = |member: &str| event[member].as_str().unwrap_or_default().to_owned();
        let (time, name) = (&event["timestamp_ms"], text("service"));
        match method {
            "events.state" => {
                let (symbol, word) = render::state(&event["to"]);
                screen.marked(&format!("{time} {name}: "), symbol, &word.to_lowercase())
            }
            "events.health" if event["healthy"] == true => {
                screen.line(&format!("{time} {name}: healthy"))
            }
            "events.health" => screen.line(&format!("{time} {name}: unhealthy")),
            "events.removed" => screen.line(&format!("{time} {name}: removed")),
            _ => {
                screen.complain(&format!("({} events missed)", event["lost"]));
                Ok(())
            }
        }
    })
}

/// Shows what comes until the server ends or nobody looks any more.
fn follow(
    session: &mut Session<'_, '_>,
    method: &str,
    params: Value,
    mut show: impl FnMut(&mut Screen<'_>, &str, &Value) -> std::io::Result<()>,
) -> Result<u8, Failure> {
    session.client.ask(method, params)?;
    while let Some(note) = session.client.note(None)? {
        let method = note["method"].as_str().unwrap_or_default();
        if session.options.json {
            session.print(&note)?;
        } else {
            show(session.screen, method, &note["params"]).map_err(Failure::Output)?;
        }
        if !session.client.has_more() {
            session.screen.flush().map_err(Failure::Output)?;
        }
    }
    Ok(exit::OK)
}

fn show(screen: &mut Screen<'_>, line: &Value, is_one: bool) -> std::io::Result<()> {
    let text = |member: &str| line[member].as_str().unwrap_or_default();
    let (time, stream, content) = (&line["timestamp_ms"], text("stream"), text("content"));
    let name = text("service");
    if is_one {
        return screen.line(&format!("{time} [{stream}] {content}"));
    }
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let place = usize::try_from(hasher.finish() % 6).unwrap_or(0);
    let begin = format!("{time} [{stream}] ");
    screen.colored(&begin, name, COLORS[place], &format!(": {content}"))
}

impl Since {
    /// As Unix milliseconds.
    fn unix_ms(self, now: SystemTime) -> u64 {
        match self {
            Self::At(ms) => ms,
            Self::Ago(span) => {
                let then = now.checked_sub(span).unwrap_or(UNIX_EPOCH);
                let since = then.duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
        }
    }

    /// Reads `90s`, `15m`, `2h` or `1d`, Unix milliseconds, or a UTC time such as
    /// `2026-01-31T23:59:59Z`, `2026-01-31 23:59` or `2026-01-31`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(ms) = text.parse() {
            return Some(Self::At(ms));
        }
        let end = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(end);
        let unit_ms = match unit {
            "ms" => Some(1),
            "s" => Some(1000),
            "m" => Some(60_000),
            "h" => Some(3_600_000),
            "d" => Some(86_400_000),
            _ => None,
        };
        if let Some(unit_ms) = unit_ms {
            let ms = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
            return Some(Self::Ago(Duration::from_millis(ms)));
        }
        moment(text).map(Self::At)
    }
}

/// A day, or a time of one, in UTC.
fn moment(text: &str) -> Option<u64> {
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let mut parts = day.split('-').map(str::parse::<i64>);
    let (year, month, day) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    if !(1970..10_000).contains(&year) || parts.next().is_some() {
        return None;
    }
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    // Days since 1970, counted in years that begin with March, so that a leap day is the last.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let mut seconds = (days - 719_468) * 86_400;
    let time = time.strip_suffix('Z').unwrap_or(time).split('.').next()?;
    let mut units = [3600, 60, 1].into_iter();
    for part in time.split(':').filter(|part| !part.is_empty()) {
        let (unit, value) = (units.next()?, part.parse::<i64>().ok()?);
        let most = if unit == 3600 { 23 } else { 59 };
        if !(0..=most).contains(&value) {
            return None;
        }
        seconds += unit * value;
    }
    u64::try_from(seconds).ok()?.checked_mul(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let at = |text| Since::parse(text);
        assert_eq!(at("1795396753694"), Some(Since::At(1_795_396_753_694)));
        assert_eq!(at("15m"), Some(Since::Ago(Duration::from_secs(900))));
        assert_eq!(at("1d"), Some(Since::Ago(Duration::from_secs(86_400))));
        assert_eq!(at("1970-01-02"), Some(Since::At(86_400_000)));
        assert_eq!(at("2024-02-29"), Some(Since::At(1_709_164_800_000)));
        for none in [
            "2026-02-29",
            "2100-02-29",
            "2026-04-31",
            "2026-13-01",
            "2026-01-31T1ZZ",
        ] {
            assert_eq!(at(none), None, "{none}");
        }
        assert_eq!(
            at("2026-11-24T18:00:01Z"),
            Some(Since::At(1_795_543_201_000))
        );
        assert_eq!(at("2024-02-29 12:30"), Some(Since::At(1_709_209_800_000)));
        for text in [
            "",
            "m",
            "5x",
            "2026-13-01",
            "2026-01-01T25:00",
            "yesterday",
            "1-2-3-4",
        ] {
            assert_eq!(at(text), None, "{text}");
        }
    }
}
