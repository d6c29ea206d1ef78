//! What the tests of the promises share: where the real binaries are, and where the foreign tools are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of one of the workspace's debug binaries, built on first use.
///
/// All binaries are built in one `cargo build --workspace`, so that features are unified as in the
/// test run itself and nothing is compiled twice. `THROUGHLINE_BINARIES` names a folder where
/// somebody has done so already.
///
/// # Panics
/// When the workspace does not build, or has no binary of that name.
pub fn binary(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        if let Some(folder) = std::env::var_os("THROUGHLINE_BINARIES") {
            return folder.into();
        }
        let folder = binary_folder();
        let target = folder.parent().expect("target/debug has a parent");
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--workspace",
                "--bins",
                "--all-features",
            ])
            .arg("--target-dir")
            .arg(target)
            .current_dir(workspace())
            .status()
            .expect("cargo starts");
        assert!(
            built.success(),
            "cargo build --workspace --bins --all-features failed"
        );
        folder
    });
    let path = folder.join(name);
    assert!(path.is_file(), "no binary {name:?} in {}", folder.display());
    path
}

/// The workspace's root folder.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A folder or file under the tools that `cargo xtask test` installs (`target/tools`, or `THROUGHLINE_TOOLS`).
///
/// # Panics
/// When it is not there: the message names the command that installs it.
pub fn tool(relative: &str) -> PathBuf {
    let root = std::env::var_os("THROUGHLINE_TOOLS")
        .map(PathBuf::from)
        .unwrap_or_else(|| workspace().join("target/tools"));
    let path = root.join(relative);
    assert!(
        path.exists(),
        "{} is missing: `cargo xtask test --only tools` installs it",
        path.display()
    );
    path
}

fn binary_folder() -> PathBuf {
    let test = std::env::current_exe().expect("the test binary has a path");
    test.parent()
        .and_then(Path::parent)
        .expect("a test binary lies in target/debug/deps")
        .to_owned()
}
