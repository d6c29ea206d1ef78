//! Installs what the checks need beside Rust: a Python environment, npm packages, AWS's Lambda emulator.
//!
//! Versions are pinned by files in this repository. An installation is kept until those files change.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread::JoinHandle;

use crate::command::Log;
use crate::workspace::Workspace;

/// The foreign tools, perhaps still being installed.
#[derive(Debug)]
pub(crate) struct Tools {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Installing(JoinHandle<Installed>),
    Done(Installed),
}

/// For each kind of tool nothing, or why it is missing.
#[derive(Clone, Debug)]
struct Installed {
    python: Result<(), String>,
    emulator: Result<(), String>,
    node: Result<(), String>,
    cdk: Result<(), String>,
}

impl Tools {
    /// Starts installing on a thread of its own; with `wanted` false, nothing is installed.
    pub(crate) fn install_in_background(workspace: &Workspace, wanted: bool) -> Self {
        let folder = workspace.tools();
        let state = if wanted {
            let (workspace, folder) = (workspace.clone(), folder.clone());
            State::Installing(std::thread::spawn(move || install(&workspace, &folder)))
        } else {
            State::Done(Installed::nothing("no chosen part needs it"))
        };
        Self {
            folder,
            state: Mutex::new(state),
        }
    }

    /// Where they are: the value of `THROUGHLINE_TOOLS` for the tests.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What could not be installed, each with its reason. Waits for the installation to end.
    pub(crate) fn missing(&self) -> Vec<String> {
        let installed = self.wait();
        [
            ("python packages", installed.python),
            ("AWS's emulator", installed.emulator),
            ("npm packages", installed.node),
            ("CDK", installed.cdk),
        ]
        .into_iter()
        .filter_map(|(name, result)| result.err().map(|reason| format!("{name}: {reason}")))
        .collect()
    }

    /// The path of a program of the Python environment, or why there is none.
    pub(crate) fn python_program(&self, name: &str) -> Result<PathBuf, String> {
        self.wait().python?;
        Ok(self.folder.join("python/bin").join(name))
    }

    /// Nothing when the CDK's packages are there, or why not.
    pub(crate) fn cdk(&self) -> Result<(), String> {
        self.wait().cdk
    }

    fn wait(&self) -> Installed {
        let mut state = self.state.lock().expect("no holder of this lock panics");
        if let State::Installing(_) = &*state {
            let waiting = State::Done(Installed::nothing("its installer panicked"));
            if let State::Installing(thread) = std::mem::replace(&mut *state, waiting)
                && let Ok(installed) = thread.join()
            {
                *state = State::Done(installed);
            }
        }
        match &*state {
            State::Done(installed) => installed.clone(),
            State::Installing(_) => unreachable!("replaced above"),
        }
    }
}

// === impl Installed ===

impl Installed {
    fn nothing(reason: &str) -> Self {
        let no = || Err(reason.to_owned());
        Self {
            python: no(),
            emulator: no(),
            node: no(),
            cdk: no(),
        }
    }
}

fn install(workspace: &Workspace, folder: &Path) -> Installed {
    let logs = workspace.output("xtask");
    let log = match Log::create(&logs, "install") {
        Ok(log) => log.quiet(),
        Err(error) => return Installed::nothing(&format!("{}: {error}", logs.display())),
    };
    let pinned = workspace.root().join("xtask/tools");
    let python = python(
        &pinned.join("requirements.txt"),
        &folder.join("python"),
        &log,
    );
    let emulator = python.clone().and_then(|()| emulator(folder));
    let node = node(&pinned, &folder.join("node"), &log);
    let cdk = node.clone().and_then(|()| {
        self::node(
            &workspace.root().join("examples/cdk"),
            &folder.join("cdk"),
            &log,
        )
    });
    Installed {
        python,
        emulator,
        node,
        cdk,
    }
}

/// A virtual environment with every package of `requirements`.
fn python(requirements: &Path, folder: &Path, log: &Log) -> Result<(), String> {
    kept(folder, &[requirements], || {
        let venv = ["-m", "venv", "--clear"];
        log.run(Command::new("python3").args(venv).arg(folder))?;
        log.run(
            Command::new(folder.join("bin/python"))
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--requirement",
                ])
                .arg(requirements),
        )
    })
}

/// AWS's own emulator of Lambda's sandbox: it comes inside the wheel of the SAM command line.
fn emulator(folder: &Path) -> Result<(), String> {
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "x86_64"
    };
    let name = format!("samcli/local/rapid/aws-lambda-rie-{arch}");
    let library = folder.join("python/lib");
    let found = std::fs::read_dir(&library)
        .map_err(|error| format!("{}: {error}", library.display()))?
        .filter_map(Result::ok)
        .map(|version| version.path().join("site-packages").join(&name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("the SAM wheel holds no {name}"))?;
    let target = folder.join("rie/aws-lambda-rie");
    let copy = || {
        std::fs::create_dir_all(folder.join("rie"))?;
        // Beside it first: a test may be running the old one.
        let new = folder.join("rie/new");
        std::fs::copy(&found, &new)?;
        std::fs::rename(&new, &target)
    };
    copy().map_err(|error| format!("{}: {error}", target.display()))
}

/// `npm ci` of the package and lock files of `pinned`, in `folder`.
fn node(pinned: &Path, folder: &Path, log: &Log) -> Result<(), String> {
    let files = [
        pinned.join("package.json"),
        pinned.join("package-lock.json"),
    ];
    kept(folder, &[&files[0], &files[1]], || {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        for file in &files {
            let name = file.file_name().expect("both have names");
            std::fs::copy(file, folder.join(name)).map_err(|error| error.to_string())?;
        }
        // Lifecycle scripts are not needed by any of the packages, and not wanted.
        let ci = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        log.run(Command::new("npm").args(ci).current_dir(folder))
    })
}

/// Runs `install` unless `folder` was made from the same `pins` before.
fn kept(
    folder: &Path,
    pins: &[&Path],
    install: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut wanted = String::new();
    for pin in pins {
        wanted +=
            &std::fs::read_to_string(pin).map_err(|error| format!("{}: {error}", pin.display()))?;
    }
    let stamp = folder.join(".installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(());
    }
    install()?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_installation_is_kept_until_its_pins_change() {
        let folder = std::env::temp_dir().join(format!("xtask-kept-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let pin = folder.join("pin");
        let mut runs = 0;
        for (pins, expected) in [("a==1", 1), ("a==1", 1), ("a==2", 2)] {
            std::fs::write(&pin, pins).unwrap();
            kept(&folder, &[&pin], || {
                runs += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(runs, expected, "{pins}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_failed_installation_is_tried_again() {
        let folder = std::env::temp_dir().join(format!("xtask-again-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let pin = folder.join("pin");
        std::fs::write(&pin, "a==1").unwrap();
        let failed = kept(&folder, &[&pin], || Err("no network".into()));
        assert_eq!(failed, Err("no network".to_owned()));
        let mut again = false;
        kept(&folder, &[&pin], || {
            again = true;
            Ok(())
        })
        .unwrap();
        assert!(again);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
