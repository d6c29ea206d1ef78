//! `cargo xtask package`: the extension as a Lambda layer, for both processors, the same bytes every time.

mod build;
mod zip;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use self::build::Arch;
use crate::USAGE;
use crate::flags::Flags;
use crate::workspace::Workspace;

/// What the binary may weigh (design, "Numbers").
const BINARY_BYTES_MAX: u64 = 3_500_000;
/// What the layer's zip may weigh (design, "Numbers").
const ZIP_BYTES_MAX: u64 = 1_700_000;

const HELP: &str = "\
cargo xtask package [--arch x86_64|arm64] [--container]

Builds the extension as a static binary and packs it as a Lambda layer, for both processors
unless --arch names one. Sizes are checked, and the same sources give the same bytes.

  target/layer/ARCH/extensions/throughline-extension   the binary
  target/layer/throughline-extension-ARCH.zip          the layer
  target/layer/throughline-extension-ARCH.zip.sha256   its sum, as sha256sum -c reads it

  --container   instead tells the two lines for the Dockerfile of a function from an image

The build for the other processor needs a C compiler for it: the one that
`cargo xtask test --only tools` installs, or what CC_<target> names.
";

/// One packed layer.
#[derive(Debug)]
pub(crate) struct Layer {
    arch: Arch,
    binary: PathBuf,
    binary_bytes: u64,
    zip: PathBuf,
    zip_bytes: u64,
    sum: String,
}

impl Layer {
    /// The unpacked extension.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// The packed layer.
    pub(crate) fn zip(&self) -> &Path {
        &self.zip
    }
}

/// Reads the command line and packs.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let (arches, container) = match read(arguments) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("{mistake}\n\n{HELP}");
            return ExitCode::from(USAGE);
        }
    };
    if container {
        print!("{}", dockerfile(arches[0]));
        return ExitCode::SUCCESS;
    }
    let workspace = Workspace::here();
    let mut good = true;
    for arch in arches {
        match pack(&workspace, arch) {
            Ok(layer) => good &= tell(&layer, &workspace),
            Err(why) => {
                eprintln!("{}: {why}", arch.name());
                good = false;
            }
        }
    }
    if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn read(arguments: &[String]) -> Result<Option<(Vec<Arch>, bool)>, String> {
    let mut arches = Arch::ALL.to_vec();
    let mut container = false;
    let mut flags = Flags::new(arguments);
    while let Some(name) = flags.next_name() {
        match name.as_str() {
            "--arch" => {
                let value = flags.value_of(&name)?;
                let arch = Arch::ALL.into_iter().find(|arch| arch.name() == value);
                arches =
                    vec![arch.ok_or_else(|| format!("--arch is x86_64 or arm64, not {value:?}"))?];
            }
            "--container" => container = true,
            "--help" | "-h" => return Ok(None),
            other => {
                return Err(format!(
                    "{other:?} is not an option of `cargo xtask package`"
                ));
            }
        }
    }
    Ok(Some((arches, container)))
}

/// Builds and packs one layer.
///
/// # Errors
/// Why it cannot be built here, in words for a user.
pub(crate) fn pack(workspace: &Workspace, arch: Arch) -> Result<Layer, String> {
    let built = build::run(workspace, arch)?;
    let folder = workspace.output("layer");
    let file = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let extensions = folder.join(arch.name()).join("extensions");
    std::fs::create_dir_all(&extensions).map_err(|error| file(&extensions, error))?;
    let binary = extensions.join("throughline-extension");
    let bytes = std::fs::read(&built).map_err(|error| file(&built, error))?;
    std::fs::write(&binary, &bytes).map_err(|error| file(&binary, error))?;
    executable(&binary).map_err(|error| file(&binary, error))?;

    let name = format!("throughline-extension-{}.zip", arch.name());
    let packed = zip::layer("throughline-extension", &bytes);
    let zip = folder.join(&name);
    std::fs::write(&zip, &packed).map_err(|error| file(&zip, error))?;
    let sum = hex(&sha256(&packed));
    let sums = folder.join(format!("{name}.sha256"));
    std::fs::write(&sums, format!("{sum}  {name}\n")).map_err(|error| file(&sums, error))?;
    Ok(Layer {
        arch,
        binary,
        binary_bytes: bytes.len() as u64,
        zip,
        zip_bytes: packed.len() as u64,
        sum,
    })
}

/// Prints what came out; false when it is too big.
fn tell(layer: &Layer, workspace: &Workspace) -> bool {
    let shown = layer
        .zip
        .strip_prefix(workspace.root())
        .unwrap_or(&layer.zip);
    println!("{:<7} {}", layer.arch.name(), shown.display());
    let mut good = true;
    for (what, bytes, most) in [
        ("binary", layer.binary_bytes, BINARY_BYTES_MAX),
        ("zip", layer.zip_bytes, ZIP_BYTES_MAX),
    ] {
        let fits = bytes <= most;
        good &= fits;
        let verdict = if fits { "ok" } else { "TOO BIG" };
        println!("        {what:<7} {bytes:>9} bytes of at most {most}  {verdict}");
    }
    println!("        sha256  {}", layer.sum);
    good
}

/// The lines for an image: layers cannot be attached to functions that come from one.
fn dockerfile(arch: Arch) -> String {
    format!(
        "COPY --chmod=755 target/layer/{}/extensions/throughline-extension /opt/extensions/\n\
         ENV THROUGHLINE_ENDPOINT=https://collector.example.com\n",
        arch.name()
    )
}

fn executable(file: &Path) -> std::io::Result<()> {
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn both_processors_unless_one_is_named() {
        assert_eq!(
            read(&words("")),
            Ok(Some((vec![Arch::X86_64, Arch::Arm64], false)))
        );
        assert_eq!(
            read(&words("--arch arm64")),
            Ok(Some((vec![Arch::Arm64], false)))
        );
        assert_eq!(read(&words("--help")), Ok(None));
        assert!(
            read(&words("--arch aarch64"))
                .unwrap_err()
                .contains("not \"aarch64\"")
        );
        assert!(read(&words("--fast")).unwrap_err().contains("--fast"));
    }

    #[test]
    fn sums_are_those_of_sha256() {
        let sum = hex(&sha256(b"abc"));
        assert_eq!(
            sum,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
