//! Words, lengths of time, and text from strangers made harmless.

use super::model::Nanos;

/// A length of time with three digits or so: `0.12 ms`, `12.3 ms`, `1.02 s`, `3 min 20 s`.
pub fn length(nanos: Nanos) -> String {
    let ms = nanos as f64 / 1e6;
    let rounded = ms.abs();
    if rounded < 0.995 {
        format!("{ms:.2} ms")
    } else if rounded < 99.95 {
        format!("{ms:.1} ms")
    } else if rounded < 999.5 {
        format!("{ms:.0} ms")
    } else if rounded < 99_500.0 {
        format!("{:.2} s", ms / 1e3)
    } else {
        let seconds = (ms / 1e3).round() as i64;
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

/// A moment as UTC, `2026-11-22T11:28:24.123456Z`.
pub fn moment(nanos: Nanos) -> String {
    let micros = nanos.div_euclid(1_000);
    let (seconds, micro) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z")
}

/// Days since 1970 to a date, by the calculation Howard Hinnant published as `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 {
        month_shifted + 3
    } else {
        month_shifted - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `1 span`, `2 spans`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Text for a page: markup escaped, characters that steer the display replaced.
pub fn html(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            c if steers(c) => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// Text for a terminal: nothing in it can move the cursor, change a colour or turn the line around.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if steers(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Control characters, and those that reorder or hide their neighbours.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// How many columns a terminal gives to `c`: a table of the blocks drawn twice as wide.
fn columns_of(c: char) -> usize {
    match c as u32 {
        0x0300..=0x036f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff => 2,
        0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 => 2,
        0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// How many columns a terminal gives to `text`.
pub fn columns(text: &str) -> usize {
    text.chars().map(columns_of).sum()
}

/// `text` in exactly `width` columns: filled with spaces, or cut with an ellipsis.
pub fn fit(text: &str, width: usize) -> String {
    let taken = columns(text);
    if taken <= width {
        return format!("{text}{}", " ".repeat(width - taken));
    }
    let mut cut = String::new();
    let mut used = 0;
    for c in text.chars() {
        let more = columns_of(c);
        if used + more + 1 > width {
            break;
        }
        cut.push(c);
        used += more;
    }
    if width > used {
        cut.push('…');
        used += 1;
    }
    cut.push_str(&" ".repeat(width.saturating_sub(used)));
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_well() {
        for (nanos, text) in [
            (0, "0.00 ms"),
            (120_000, "0.12 ms"),
            (999_000, "1.0 ms"),
            (12_340_000, "12.3 ms"),
            (123_400_000, "123 ms"),
            (999_600_000, "1.00 s"),
            (1_020_000_000, "1.02 s"),
            (200_000_000_000, "3 min 20 s"),
        ] {
            assert_eq!(length(nanos), text);
        }
    }

    #[test]
    fn moments_are_utc() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            moment(1_795_338_764_194_123_456),
            "2026-11-22T09:12:44.194123Z"
        );
        assert_eq!(
            moment(951_782_400_000_000_000),
            "2000-02-29T00:00:00.000000Z"
        );
        assert_eq!(moment(-1), "1969-12-31T23:59:59.999999Z");
    }

    #[test]
    fn strangers_text_is_harmless() {
        let hostile = "<script>alert('x')</script>&\"\u{1b}[2J\u{202e}";
        let page = html(hostile);
        assert!(
            !page.contains(['<', '>', '"', '\'', '\u{1b}', '\u{202e}']),
            "{page}"
        );
        assert_eq!(html("a&b"), "a&amp;b");
        let line = plain("\u{1b}[31mred\r\n");
        assert_eq!(line, "\u{fffd}[31mred\u{fffd}\u{fffd}");
    }

    #[test]
    fn text_fits_its_columns() {
        for (text, width) in [
            ("abc", 5),
            ("abcdef", 5),
            ("注文処理", 5),
            ("注文", 4),
            ("", 3),
            ("abc", 0),
        ] {
            assert_eq!(columns(&fit(text, width)), width, "{text:?} in {width}");
        }
        assert_eq!(fit("abcdef", 4), "abc…");
    }
}
