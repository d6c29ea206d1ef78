//! Stopping and continuing whole process groups, and seeing that they are stopped.

use super::{Signal, send};
use crate::{sandbox::state::Shared, timeline::Event};
use std::{fs, time::Duration};
use tokio::time::Instant;

/// Longest wait for the operating system to have stopped a group; it takes microseconds.
const STOP_WAIT_MAX: Duration = Duration::from_secs(5);

impl Shared {
    /// Stops every process and waits until the operating system says they are stopped; then writes it down.
    pub(in crate::sandbox) async fn freeze(&self, request_id: Option<String>) {
        if !self.config.freeze {
            return;
        }
        let pids = self.running();
        // Before the signals: a telemetry batch must not be started towards processes that are being stopped.
        self.lock().frozen = true;
        self.telemetry.freeze(true);
        for pid in &pids {
            send(*pid, Signal::Stop);
        }
        let limit = Instant::now() + STOP_WAIT_MAX;
        // The leaders first, as looking for the rest of their groups means looking at every process there is.
        while !pids.iter().all(|pid| threads_stopped(*pid)) || !groups_stopped(&pids) {
            if Instant::now() > limit {
                let text = format!("{pids:?} were not seen stopped within {STOP_WAIT_MAX:?}");
                self.record(Event::Note { text });
                return self.update(|_| ());
            }
            tokio::time::sleep(Duration::from_micros(50)).await;
        }
        self.record(Event::FreezeBegan { request_id });
        self.update(|_| ());
    }

    /// Continues every process.
    pub(in crate::sandbox) fn thaw(&self) {
        if !std::mem::take(&mut self.lock().frozen) {
            return;
        }
        self.record(Event::FreezeEnded);
        for pid in self.running() {
            send(pid, Signal::Cont);
        }
        self.telemetry.freeze(false);
        self.update(|_| ());
    }

    /// Kills every group at once, for destructors.
    pub(in crate::sandbox) fn kill_everything(&self) {
        for pid in self.running() {
            send(pid, Signal::Kill);
        }
    }

    fn running(&self) -> Vec<u32> {
        let everybody = self.lock().everybody();
        everybody
            .into_iter()
            .filter(|(_, life)| life.exited.is_none())
            .map(|(_, life)| life.pid)
            .collect()
    }
}

/// Whether every process of these groups is stopped.
fn groups_stopped(groups: &[u32]) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else {
        return true;
    };
    let pids = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut members = pids.filter(|pid| {
        stat(&format!("/proc/{pid}/stat")).is_some_and(|(_, group)| groups.contains(&group))
    });
    members.all(threads_stopped)
}

/// Whether every thread of a process is stopped, or the process gone.
/// Without `/proc` (not Linux) the signal alone has to do.
fn threads_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return true;
    };
    threads.flatten().all(|thread| {
        let path = thread.path().join("stat");
        let state = stat(&path.to_string_lossy()).map(|(state, _)| state);
        matches!(state, None | Some('T' | 't' | 'Z' | 'X'))
    })
}

/// State and process group of a `/proc/…/stat` file, `None` for a process that is gone.
/// The name in parentheses may hold anything, so what follows the last one counts.
fn stat(path: &str) -> Option<(char, u32)> {
    let text = fs::read_to_string(path).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn our_own_stat_can_be_read() {
        if Path::new("/proc/self/stat").exists() {
            let (state, _) = stat("/proc/self/stat").unwrap();
            assert!(matches!(state, 'R' | 'S'), "{state}");
        }
    }
}
