//! Reads command lines: `--switch`, `--option VALUE` and `--option=VALUE`, nothing else.

use std::collections::VecDeque;

/// The words of a command line that are still to be read.
#[derive(Debug)]
pub(crate) struct Flags {
    words: VecDeque<String>,
}

impl Flags {
    /// Starts at the first word after the command's name.
    pub(crate) fn new(words: &[String]) -> Self {
        let words = words
            .iter()
            .flat_map(|word| match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => {
                    vec![name.to_owned(), value.to_owned()]
                }
                _ => vec![word.clone()],
            })
            .collect();
        Self { words }
    }

    /// The next option's name, or nothing at the end.
    pub(crate) fn next_name(&mut self) -> Option<String> {
        self.words.pop_front()
    }

    /// The value that follows the option `name`.
    ///
    /// # Errors
    /// When the line ends there or another option follows.
    pub(crate) fn value_of(&mut self, name: &str) -> Result<String, String> {
        match self.words.front() {
            Some(value) if !value.starts_with("--") => {
                Ok(self.words.pop_front().expect("the front was just seen"))
            }
            _ => Err(format!("{name} needs a value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(words: &[&str]) -> Flags {
        Flags::new(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn both_ways_of_giving_a_value_are_read() {
        for words in [&["--only", "fmt"][..], &["--only=fmt"][..]] {
            let mut flags = flags(words);
            assert_eq!(flags.next_name().as_deref(), Some("--only"));
            assert_eq!(flags.value_of("--only").as_deref(), Ok("fmt"));
            assert_eq!(flags.next_name(), None);
        }
    }

    #[test]
    fn a_missing_value_is_named() {
        for words in [&["--only"][..], &["--only", "--strict"][..]] {
            let mut flags = flags(words);
            let name = flags.next_name().unwrap();
            assert_eq!(
                flags.value_of(&name),
                Err("--only needs a value".to_owned())
            );
        }
    }
}
