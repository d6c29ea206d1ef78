//! The command line of the benchmarks.
//!
//! Also compiled into `xtask`, which reads it before it builds anything: nothing but the standard library here.

/// What `--help` prints.
pub const HELP: &str = "\
cargo xtask bench [--only GROUP]

Measures the numbers of the README against their limits, on this machine, now. The extension is
the binary of the layer; in turns with it runs one that does nothing, written with the
lambda-extension crate: the floor. Everything is on loopback, frozen between invocations. Wall
times mean little on a busy machine: the load is told.

  --only GROUP   sizes, start, added, outages, throughput or wrapper

Exit code 0 also when a number is missed: the table says which. 64: the command line is wrong.
";

/// Everything that can be measured, in its order.
pub const GROUPS: [&str; 6] = [
    "sizes",
    "start",
    "added",
    "outages",
    "throughput",
    "wrapper",
];

/// The groups that were asked for; `None` asks for help.
///
/// # Errors
/// What cannot be understood.
pub fn read(words: &[String]) -> Result<Option<Vec<&'static str>>, String> {
    let words: Vec<&str> = words.iter().flat_map(|word| word.splitn(2, '=')).collect();
    match words.as_slice() {
        [] => Ok(Some(GROUPS.to_vec())),
        ["--help" | "-h"] => Ok(None),
        ["--only", name] => match GROUPS.iter().find(|group| *group == name) {
            Some(group) => Ok(Some(vec![group])),
            None => Err(format!(
                "--only is one of {}, not {name:?}",
                GROUPS.join(", ")
            )),
        },
        ["--only"] => Err("--only needs a value".into()),
        [other, ..] => Err(format!("{other:?} is not an option of `cargo xtask bench`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let read = |line: &str| {
            read(
                &line
                    .split_whitespace()
                    .map(str::to_owned)
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(read(""), Ok(Some(GROUPS.to_vec())));
        assert_eq!(read("--only start"), Ok(Some(vec!["start"])));
        assert_eq!(read("--only=start"), Ok(Some(vec!["start"])));
        assert_eq!(read("--help"), Ok(None));
        assert!(read("--only speed").unwrap_err().contains("not \"speed\""));
        assert!(read("--fast").unwrap_err().contains("--fast"));
    }
}
