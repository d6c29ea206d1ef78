//! Kills the process groups of a sandbox when this process dies without having done so: a killed or aborted test
//! runs no destructor, and a stopped process would stay for ever.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

/// Reads `+ pid` and `- pid`; when its input ends, because we closed it or died, kills the groups still listed.
const SCRIPT: &str = r#"trap '' INT TERM HUP
groups=' '
while read -r sign pid; do
  case $sign in
    +) groups="$groups$pid ";;
    -) groups="${groups%% $pid *} ${groups#* $pid }";;
  esac
done
for pid in $groups; do kill -s KILL -- "-$pid" 2>/dev/null; done"#;

/// A shell in a process group of its own, fed through a pipe.
#[derive(Debug)]
pub(super) struct Watchdog {
    child: Child,
    input: Mutex<Option<ChildStdin>>,
}

impl Watchdog {
    pub(super) fn start() -> io::Result<Self> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let input = Mutex::new(child.stdin.take());
        Ok(Self { child, input })
    }

    pub(super) fn watch(&self, pid: u32) {
        self.say('+', pid);
    }

    pub(super) fn forget(&self, pid: u32) {
        self.say('-', pid);
    }

    fn say(&self, sign: char, pid: u32) {
        if let Some(input) = &mut *self.input.lock().unwrap_or_else(PoisonError::into_inner) {
            // Without a watchdog the destructors still work.
            let _ = writeln!(input, "{sign} {pid}");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.input
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_dies_with_us_and_what_was_forgotten_does_not() {
        let sleeper = || {
            Command::new("sleep")
                .arg("60")
                .process_group(0)
                .spawn()
                .unwrap()
        };
        let (mut left, mut other, mut forgotten) = (sleeper(), sleeper(), sleeper());
        let watchdog = Watchdog::start().unwrap();
        for child in [&left, &forgotten, &other] {
            watchdog.watch(child.id());
        }
        watchdog.forget(forgotten.id());
        drop(watchdog);
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(left.wait().unwrap().signal(), Some(9));
        assert_eq!(other.wait().unwrap().signal(), Some(9));
        assert!(forgotten.try_wait().unwrap().is_none());
        forgotten.kill().unwrap();
        forgotten.wait().unwrap();
    }
}
