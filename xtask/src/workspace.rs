//! Where things are: the sources, and what the commands write below `target/`.

use std::path::{Path, PathBuf};

/// The folders of one checkout.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout that this binary was built from.
    pub(crate) fn here() -> Self {
        // Cargo sets the variable for `cargo run`; the compiled-in value serves a binary started by hand.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest.parent().map_or(manifest.clone(), Path::to_owned);
        Self { root }
    }

    /// The folder of the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The cargo that runs us, else the one on the path.
    pub(crate) fn cargo(&self) -> PathBuf {
        std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
    }

    /// Where cargo puts what it builds: `CARGO_TARGET_DIR`, else `target`.
    pub(crate) fn cargo_target(&self) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.root.join("target"), |set| self.root.join(set))
    }

    /// `target/<name>`, whatever `CARGO_TARGET_DIR` says: places that people are told to look at.
    pub(crate) fn output(&self, name: &str) -> PathBuf {
        self.root.join("target").join(name)
    }

    /// Where the foreign tools are installed: `THROUGHLINE_TOOLS`, else `target/tools`.
    pub(crate) fn tools(&self) -> PathBuf {
        std::env::var_os("THROUGHLINE_TOOLS")
            .map_or_else(|| self.output("tools"), |set| self.root.join(set))
    }
}
