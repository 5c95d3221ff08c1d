//! Lines of the system's log: what programs send to `/dev/log`, and what goes to others (RFC 3164
//! as `syslog(3)` writes it, and RFC 5424).

/// A line that came over `/dev/log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyslogLine<'a> {
    /// Who says so, by its own account; empty if it does not say.
    pub tag: &'a str,
    /// All of it, from the tag on.
    pub text: &'a str,
}

/// Reads a datagram: a priority, a time, a tag and a text, of which all but the text may be
/// missing.
#[must_use]
pub fn syslog_line(datagram: &str) -> SyslogLine<'_> {
    let text = datagram.trim_end_matches(['\n', '\0', '\r']);
    let text = without_priority(text);
    if let Some(line) = modern(text) {
        return line;
    }
    let text = without_time(text);
    let end = text
        .find(|c: char| !c.is_ascii_alphanumeric() && !"-_./@".contains(c))
        .unwrap_or(0);
    let is_tag = end > 0 && text[end..].starts_with([':', '[']);
    let tag = if is_tag { &text[..end] } else { "" };
    SyslogLine { tag, text }
}

fn without_priority(text: &str) -> &str {
    let inner = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    match inner {
        Some((number, rest)) if number.parse::<u8>().is_ok() => rest,
        Some(_) | None => text,
    }
}

/// `Jan 31 23:59:59 `, as `syslog(3)` writes it.
fn without_time(text: &str) -> &str {
    const LENGTH: usize = "Jan 31 23:59:59 ".len();
    let Some(time) = text.get(..LENGTH) else {
        return text;
    };
    let bytes = time.as_bytes();
    let is_time = bytes[3] == b' ' && bytes[9] == b':' && bytes[12] == b':' && bytes[15] == b' ';
    if is_time { &text[LENGTH..] } else { text }
}

/// `1 TIME HOST APP PROCID MSGID DATA TEXT` (RFC 5424, section 6).
fn modern(text: &str) -> Option<SyslogLine<'_>> {
    let rest = text.strip_prefix("1 ")?;
    let mut words = rest.splitn(6, ' ');
    let (_time, _host) = (words.next()?, words.next()?);
    let (tag, _pid, _id) = (words.next()?, words.next()?, words.next()?);
    let rest = words.next()?;
    let text = match rest.strip_prefix('-') {
        Some(text) => text,
        // Structured data ends with the bracket that no other one follows.
        None => rest.split_once("] ").map_or("", |(_, text)| text),
    };
    let text = text.trim_start_matches([' ', '\u{feff}']);
    Some(SyslogLine { tag, text })
}

/// A line for another syslog (RFC 5424): facility daemon, by a service.
#[must_use]
pub fn to_syslog(time: &str, host: &str, service: &str, is_error: bool, text: &str) -> String {
    // Facility 3, daemon; severity 5, notice, and 6, informational.
    let priority = 3 * 8 + if is_error { 5 } else { 6 };
    let host = if host.is_empty() { "-" } else { host };
    format!("<{priority}>1 {time} {host} {service} - - - {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_programs_write_them() {
        let read = |text| {
            let line = syslog_line(text);
            (line.tag, line.text)
        };
        assert_eq!(
            read("<30>Nov 24 18:00:00 sshd[12]: hello: you\n"),
            ("sshd", "sshd[12]: hello: you")
        );
        assert_eq!(read("<13>logger: x"), ("logger", "logger: x"));
        assert_eq!(
            read("<30>1 2026-11-24T18:00:00Z box app 12 - - text here"),
            ("app", "text here")
        );
        assert_eq!(
            read("<30>1 - - app - - [a b=\"c\"][d] text"),
            ("app", "text")
        );
        assert_eq!(read("no tag at all"), ("", "no tag at all"));
        assert_eq!(read("<999>x: y"), ("", "<999>x: y"));
        assert_eq!(read(""), ("", ""));
        assert_eq!(read("<13>Nov 24 18:00:00 ü"), ("", "ü"));
    }

    #[test]
    fn lines_are_written_as_the_rfc_says() {
        let line = to_syslog("2026-11-24T18:00:00.000Z", "", "web", true, "it burns");
        assert_eq!(line, "<29>1 2026-11-24T18:00:00.000Z - web - - - it burns");
    }
}
