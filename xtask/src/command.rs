//! Runs one program of a check, keeping what it says in a file and telling that it is still alive.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How often a long program shows its latest line. Chosen, because CI systems end jobs silent for minutes.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// The log of one check: every program it runs appends to the same file.
#[derive(Debug)]
pub(crate) struct Log {
    name: String,
    path: PathBuf,
    quiet: bool,
}

impl Log {
    /// An empty log `folder/<name>.log`.
    pub(crate) fn create(folder: &Path, name: &str) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{name}.log"));
        File::create(&path)?;
        Ok(Self {
            name: name.to_owned(),
            path,
            quiet: false,
        })
    }

    /// The same, for work beside another check: no heartbeat lines of its own.
    pub(crate) fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// All that was said so far.
    pub(crate) fn text(&self) -> String {
        std::fs::read(&self.path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Runs `command` to its end.
    ///
    /// # Errors
    /// What went wrong, in one line: it does not start, or how it ended. The whole output is in the log.
    pub(crate) fn run(&self, command: &mut Command) -> Result<(), String> {
        let shown = show(command);
        let mut file = File::options()
            .append(true)
            .open(&self.path)
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        writeln!(file, "$ {shown}").map_err(|error| error.to_string())?;
        let clone = || file.try_clone().map_err(|error| error.to_string());
        let mut child = command
            .stdin(Stdio::null())
            .stdout(clone()?)
            .stderr(clone()?)
            .spawn()
            .map_err(|error| format!("{shown}: {error}"))?;
        let (ended, wait) = mpsc::channel();
        let started = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(move || ended.send(child.wait()));
            loop {
                match wait.recv_timeout(HEARTBEAT) {
                    Ok(Ok(status)) if status.success() => return Ok(()),
                    Ok(Ok(status)) => return Err(format!("{shown}: {status}")),
                    Ok(Err(error)) => return Err(format!("{shown}: {error}")),
                    Err(mpsc::RecvTimeoutError::Disconnected) => {
                        return Err(format!("{shown}: nobody waits for it"));
                    }
                    Err(mpsc::RecvTimeoutError::Timeout) => self.heartbeat(started.elapsed()),
                }
            }
        })
    }

    fn heartbeat(&self, elapsed: Duration) {
        if self.quiet {
            return;
        }
        let text = self.text();
        let latest = text
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("");
        let latest: String = latest.chars().take(100).collect();
        println!("      {} {:>4} s  {latest}", self.name, elapsed.as_secs());
    }
}

/// A command line as somebody would type it.
fn show(command: &Command) -> String {
    let word = |word: &OsStr| {
        let word = word.to_string_lossy();
        if word.contains(' ') {
            format!("'{word}'")
        } else {
            word.into_owned()
        }
    };
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    std::iter::once(word(program))
        .chain(command.get_args().map(word))
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(name: &str) -> Log {
        let folder = std::env::temp_dir().join(format!("xtask-log-{}", std::process::id()));
        Log::create(&folder, name).unwrap()
    }

    #[test]
    fn a_program_that_fails_is_an_error_and_its_words_are_kept() {
        let log = log("fails");
        let ended = log.run(Command::new("sh").args(["-c", "echo said; echo wrong >&2; exit 3"]));
        assert!(ended.unwrap_err().contains("exit status: 3"));
        let text = log.text();
        assert!(text.contains("said") && text.contains("wrong"), "{text}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let ended = log("absent").run(&mut Command::new("no-such-program-here"));
        assert!(ended.unwrap_err().starts_with("no-such-program-here: "));
    }
}
