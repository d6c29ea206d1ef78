//! Values of variables: numbers, durations, sizes, lists, and what is wrong with them.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::Variables;

/// One thing that is wrong with the configuration, in a form to be read by a person.
///
/// It names the variable and never repeats a value that may be a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// The variable it is about.
    pub variable: String,
    /// What is wrong, and what happens instead.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.variable, self.text)
    }
}

/// Reads typed values out of variables and collects what is wrong.
pub(super) struct Reader<'a> {
    variables: &'a Variables,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(variables: &'a Variables) -> Self {
        Self {
            variables,
            mistakes: Vec::new(),
        }
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    pub(super) fn mistake(&mut self, variable: &str, text: impl Into<String>) {
        self.mistakes.push(Mistake {
            variable: variable.into(),
            text: text.into(),
        });
    }

    pub(super) fn has_mistake(&self, variable: &str, text: &str) -> bool {
        self.mistakes
            .iter()
            .any(|mistake| mistake.variable == variable && mistake.text == text)
    }

    /// The trimmed value.
    // OpenTelemetry, "Environment Variable Specification": an empty value is the same as none.
    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.variables
            .get(name)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// One of the named choices; names are compared without regard to case.
    pub(super) fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> Option<T> {
        let value = self.text(name)?;
        let found = choices
            .iter()
            .find(|(choice, _)| choice.eq_ignore_ascii_case(value));
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.mistake(name, format!("={value:?} is none of {}", names.join(", ")));
        }
        found.map(|(_, choice)| *choice)
    }

    pub(super) fn parsed<T: FromStr>(&mut self, name: &str, what: &str) -> Option<T> {
        let value = self.text(name)?;
        let parsed = value.parse().ok();
        if parsed.is_none() {
            self.mistake(name, format!("={value:?} is not {what}"));
        }
        parsed
    }

    pub(super) fn port(&mut self, name: &str, default: u16) -> u16 {
        let port = self.parsed(name, "a port from 1 to 65535");
        if port == Some(0) {
            self.mistake(name, "=\"0\" is not a port from 1 to 65535");
            return default;
        }
        port.unwrap_or(default)
    }

    pub(super) fn duration(
        &mut self,
        name: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = self.text(name) else {
            return default;
        };
        match duration(value) {
            Some(duration) if range.contains(&duration) => duration,
            Some(_) => {
                let (low, high) = (range.start(), range.end());
                self.mistake(
                    name,
                    format!("={value:?} is outside {low:?} to {high:?}; {default:?} is used"),
                );
                default
            }
            None => {
                self.mistake(
                    name,
                    format!(
                        "={value:?} is not a duration such as 500ms, 1s or 500; {default:?} is used"
                    ),
                );
                default
            }
        }
    }

    pub(super) fn size(
        &mut self,
        name: &str,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> usize {
        let Some(value) = self.text(name) else {
            return default;
        };
        match size(value) {
            Some(size) if range.contains(&size) => size,
            Some(_) => {
                let (low, high) = (range.start(), range.end());
                self.mistake(
                    name,
                    format!("={value:?} is outside {low} to {high} bytes; {default} is used"),
                );
                default
            }
            None => {
                self.mistake(
                    name,
                    format!(
                        "={value:?} is not a size such as 4MiB, 512KiB or 65536; {default} is used"
                    ),
                );
                default
            }
        }
    }
}

/// `500ms`, `1s`; a bare number is milliseconds.
fn duration(text: &str) -> Option<Duration> {
    let (digits, unit) = split_unit(text);
    let number: u64 = digits.parse().ok()?;
    match unit {
        "" | "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

/// `4MiB`, `512KiB`; a bare number is bytes.
fn size(text: &str) -> Option<usize> {
    let (digits, unit) = split_unit(text);
    let number: usize = digits.parse().ok()?;
    let factor = match unit {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    number.checked_mul(factor)
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Decodes `%41`; `None` when a `%` is not followed by two hexadecimal digits or the result is not UTF-8.
pub(super) fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte"));
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

/// Letters to insert, delete or replace to make one of the other (Levenshtein).
pub(super) fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, against) in other.bytes().enumerate() {
            let replaced = diagonal + usize::from(letter != against);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [("500ms", 500), ("1s", 1000), ("250", 250), ("2 s", 2000)] {
            assert_eq!(
                duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in ["", "s", "-1s", "1.5s", "1m", "1S", "99999999999999999999"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4MiB", 4 << 20),
            ("512KiB", 512 << 10),
            ("65536", 65536),
            ("7B", 7),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "4MB", "4m", "1.5MiB", "99999999999999999MiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn percent_decoding() {
        assert_eq!(
            percent_decoded("Basic%20dTpw%3D").as_deref(),
            Some("Basic dTpw=")
        );
        assert_eq!(percent_decoded("100%"), None);
        assert_eq!(percent_decoded("%zz"), None);
        assert_eq!(percent_decoded("%ff"), None);
    }

    #[test]
    fn distances() {
        for (one, other, expected) in [
            ("", "", 0),
            ("kitten", "sitting", 3),
            ("FLUSH", "FLUSHH", 1),
            ("AB", "", 2),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
        }
    }
}
