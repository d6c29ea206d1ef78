//! What the operating system knows about a process. Linux only, as Lambda is.

use std::fs;
use std::time::Duration;

/// Time on a processor since the process began, all threads that live together, to the nanosecond.
pub fn cpu(pid: u32) -> Option<Duration> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        // `schedstat` counts nanoseconds where `stat` counts hundredths of a second.
        // A thread may end between the listing and the look at it.
        let Ok(text) = fs::read_to_string(task.ok()?.path().join("schedstat")) else {
            continue;
        };
        total += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(Duration::from_nanos(total))
}

/// Resident memory now, in bytes.
pub fn resident(pid: u32) -> Option<u64> {
    status(pid, "VmRSS:")
}

/// The most resident memory it ever had, in bytes.
pub fn resident_peak(pid: u32) -> Option<u64> {
    status(pid, "VmHWM:")
}

fn status(pid: u32, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}

/// Load of the machine over the last minute: wall times mean little when it is high.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg")
        .ok()?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_something() {
        let me = std::process::id();
        assert!(cpu(me).unwrap() > Duration::ZERO);
        assert!(resident(me).unwrap() > 100_000);
        assert!(resident_peak(me).unwrap() >= resident(me).unwrap() / 2);
        assert!(load().unwrap() >= 0.0);
        assert_eq!(cpu(u32::MAX), None);
    }

    #[test]
    fn a_thread_that_ends_while_it_is_counted_is_left_out() {
        for _ in 0..300 {
            let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(|| {})).collect();
            assert!(cpu(std::process::id()).is_some());
            for thread in threads {
                thread.join().unwrap();
            }
        }
    }
}
