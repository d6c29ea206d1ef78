//! The static binary for one processor.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::Workspace;

/// A processor of Lambda's, by Lambda's names.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Arch {
    /// Intel and AMD.
    X86_64,
    /// Graviton.
    Arm64,
}

impl Arch {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::X86_64, Self::Arm64];

    /// The one this program runs on.
    pub(crate) fn this_machine() -> Self {
        if Self::Arm64.is_this_machine() {
            Self::Arm64
        } else {
            Self::X86_64
        }
    }

    /// As Lambda writes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }

    /// As Rust writes it. Statically linked musl: runs on every image that Lambda has, whatever its libc.
    fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-musl",
            Self::Arm64 => "aarch64-unknown-linux-musl",
        }
    }

    /// As zig writes it.
    fn zig(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux-musl",
            Self::Arm64 => "aarch64-linux-musl",
        }
    }

    fn is_this_machine(self) -> bool {
        match self {
            Self::X86_64 => cfg!(target_arch = "x86_64"),
            Self::Arm64 => cfg!(target_arch = "aarch64"),
        }
    }
}

/// Builds and gives the binary's path.
///
/// # Errors
/// What is missing for it, or that it does not compile.
pub(super) fn run(workspace: &Workspace, arch: Arch) -> Result<PathBuf, String> {
    let target = arch.target();
    add_target(workspace, target)?;
    let mut cargo = Command::new(workspace.cargo());
    cargo
        .args([
            "build",
            "--package",
            "throughline-extension",
            "--profile",
            "ship",
            "--locked",
        ])
        .args(["--target", target])
        .current_dir(workspace.root())
        .env("RUSTFLAGS", flags(workspace, arch));
    c_compiler(workspace, arch, &mut cargo)?;
    let status = cargo
        .status()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if !status.success() {
        return Err(format!("the build for {target} failed"));
    }
    Ok(workspace
        .cargo_target()
        .join(target)
        .join("ship/throughline-extension"))
}

/// Folders of this machine do not get into the binary: panics name files by these paths.
fn flags(workspace: &Workspace, arch: Arch) -> String {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut flags = format!(
        "--remap-path-prefix={}=throughline",
        workspace.root().display()
    );
    if let Some(home) = home {
        flags += &format!(" --remap-path-prefix={}=cargo", home.display());
    }
    if arch.is_this_machine() {
        // Relocations as a bitmap: 100 KB less. musl applies them; a linker that does not know the word only warns.
        flags += " -C link-arg=-Wl,-z,pack-relative-relocs";
    }
    flags
}

/// Makes sure that Rust's standard library for `target` is there.
fn add_target(workspace: &Workspace, target: &str) -> Result<(), String> {
    let installed = || {
        let mut rustc = Command::new("rustc");
        rustc
            .args(["--print", "target-libdir", "--target", target])
            .current_dir(workspace.root());
        let output = rustc.output().ok()?;
        let folder = String::from_utf8(output.stdout).ok()?;
        Some(output.status.success() && Path::new(folder.trim()).is_dir())
    };
    if installed() == Some(true) {
        return Ok(());
    }
    eprintln!("adding the Rust target {target}");
    let added = Command::new("rustup")
        .args(["target", "add", target])
        .current_dir(workspace.root())
        .output()
        .map_err(|error| {
            format!("Rust's library for {target} is missing, and rustup does not start: {error}")
        })?;
    if added.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&added.stderr);
    let last = said
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("it gave no reason");
    Err(format!(
        "Rust's library for {target} is missing, and rustup cannot add it: {last}"
    ))
}

/// Names a C compiler for the cryptography's C and assembly, and a linker, unless the user has.
fn c_compiler(workspace: &Workspace, arch: Arch, cargo: &mut Command) -> Result<(), String> {
    let name = arch.target().replace('-', "_");
    if std::env::var_os(format!("CC_{name}")).is_some() {
        return Ok(());
    }
    if arch.is_this_machine() {
        // The machine's own compiler does: it needs no musl headers, only to leave out what glibc alone has.
        cargo.env(format!("CC_{name}"), "cc");
        cargo.env(
            format!("CFLAGS_{name}"),
            "-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0 -fno-stack-protector",
        );
        return Ok(());
    }
    let python = workspace.tools().join("python/bin/python");
    if !has_zig(&python) {
        return Err(format!(
            "no C compiler for {0}: `cargo xtask test --only tools` installs one, or name yours in CC_{name} \
             and its linker in CARGO_TARGET_{1}_LINKER",
            arch.target(),
            name.to_uppercase()
        ));
    }
    let folder = workspace.output("layer").join("cc");
    let compiler = script(
        &folder,
        &format!("cc-{}", arch.name()),
        &zig_cc(&python, arch),
    )?;
    let archiver = script(&folder, &format!("ar-{}", arch.name()), &zig_ar(&python))?;
    cargo.env(format!("CC_{name}"), compiler);
    cargo.env(format!("AR_{name}"), archiver);
    // Rust brings musl's start files, its library and a linker for every processor.
    cargo.env(
        format!("CARGO_TARGET_{}_LINKER", name.to_uppercase()),
        "rust-lld",
    );
    Ok(())
}

fn has_zig(python: &Path) -> bool {
    let version = Command::new(python)
        .args(["-m", "ziglang", "version"])
        .output();
    version.is_ok_and(|output| output.status.success())
}

/// Zig knows targets by other names than Rust: what the build passes on is left out.
fn zig_cc(python: &Path, arch: Arch) -> String {
    format!(
        "#!/bin/sh\nfor word do\n  shift\n  case $word in --target=*) ;; *) set -- \"$@\" \"$word\";; esac\ndone\n\
         exec '{}' -m ziglang cc -target {} \"$@\"\n",
        python.display(),
        arch.zig()
    )
}

fn zig_ar(python: &Path) -> String {
    format!(
        "#!/bin/sh\nexec '{}' -m ziglang ar \"$@\"\n",
        python.display()
    )
}

fn script(folder: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let file = folder.join(name);
    std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&file, text))
        .and_then(|()| super::executable(&file))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(file)
}
