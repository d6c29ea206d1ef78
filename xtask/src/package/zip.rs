//! A zip of one executable, without anything that changes from run to run: no clock, no user, no machine.
//!
//! The format is PKWARE's APPNOTE.TXT, sections 4.3 and 4.4; a layer needs no more of it than this.

use std::io::Write as _;

use flate2::Crc;
use zopfli::{BlockType, DeflateEncoder, Options};

/// 1980-01-01 00:00, the earliest the format can say ("date and time fields").
const DATE: u16 = (1 << 5) | 1;
const TIME: u16 = 0;
/// "Version made by": Unix, so that the attributes are read as a Unix mode.
const MADE_BY: u16 = (3 << 8) | 20;
/// "Version needed to extract" 2.0: folders and deflate.
const NEEDED: u16 = 20;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const FOLDER_MODE: u32 = 0o040_755;
const PROGRAM_MODE: u32 = 0o100_755;

/// The layer's zip: `extensions/<name>` holding `program`, executable.
pub(super) fn layer(name: &str, program: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.entry("extensions/", FOLDER_MODE, &[]);
    writer.entry(&format!("extensions/{name}"), PROGRAM_MODE, program);
    writer.finish()
}

#[derive(Default)]
struct Writer {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    entries: u16,
}

impl Writer {
    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        let mut crc = Crc::new();
        crc.update(content);
        let (method, packed) = match content {
            [] => (STORED, Vec::new()),
            content => (DEFLATED, deflate(content)),
        };
        let offset = size(self.bytes.len());
        // What the local header and the central directory say alike.
        let mut common = Vec::new();
        for field in [NEEDED, 0, method, TIME, DATE] {
            common.extend(field.to_le_bytes());
        }
        for field in [crc.sum(), size(packed.len()), size(content.len())] {
            common.extend(field.to_le_bytes());
        }
        let name_length = u16::try_from(name.len()).expect("a short name");
        common.extend(name_length.to_le_bytes());
        common.extend(0_u16.to_le_bytes());

        self.bytes.extend(b"PK\x03\x04");
        self.bytes.extend(&common);
        self.bytes.extend(name.as_bytes());
        self.bytes.extend(&packed);

        self.directory.extend(b"PK\x01\x02");
        self.directory.extend(MADE_BY.to_le_bytes());
        self.directory.extend(&common);
        // No comment, disk 0, no internal attributes.
        self.directory.extend([0; 6]);
        self.directory.extend((mode << 16).to_le_bytes());
        self.directory.extend(offset.to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.entries += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let at = size(self.bytes.len());
        self.bytes.extend(&self.directory);
        self.bytes.extend(b"PK\x05\x06\0\0\0\0");
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(self.entries.to_le_bytes());
        self.bytes.extend(size(self.directory.len()).to_le_bytes());
        self.bytes.extend(at.to_le_bytes());
        self.bytes.extend(0_u16.to_le_bytes());
        self.bytes
    }
}

/// As small as deflate can be: some four hundredths less than zlib's best, and Lambda unpacks it as quickly.
fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Options::default(), BlockType::Dynamic, Vec::new());
    encoder
        .write_all(content)
        .and_then(|()| encoder.finish())
        .expect("a vector takes everything")
}

fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a layer is far below 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn the_same_program_gives_the_same_bytes() {
        let program: Vec<u8> = (0..100_000_u32)
            .flat_map(|n| n.wrapping_mul(n).to_le_bytes())
            .collect();
        assert_eq!(layer("ext", &program), layer("ext", &program));
    }

    #[test]
    fn the_program_is_in_it_and_executable() {
        let program = b"\x7fELF and the rest".repeat(100);
        let zip = layer("ext", &program);
        // Read backwards as an unzipper does: end record, directory, second entry.
        let end = zip.len() - 22;
        assert_eq!(&zip[end..end + 4], b"PK\x05\x06");
        let word = |at: usize| u32::from_le_bytes(zip[at..at + 4].try_into().unwrap()) as usize;
        let directory = word(end + 16);
        let second = directory + 46 + "extensions/".len();
        assert_eq!(&zip[second..second + 4], b"PK\x01\x02");
        assert_eq!(&zip[second + 46..second + 46 + 14], b"extensions/ext");
        assert_eq!(word(second + 38) >> 16, 0o100_755);
        let local = word(second + 42);
        let start = local + 30 + "extensions/ext".len();
        let packed = &zip[start..start + word(second + 20)];
        let mut unpacked = Vec::new();
        flate2::read::DeflateDecoder::new(packed)
            .read_to_end(&mut unpacked)
            .unwrap();
        assert_eq!(unpacked, program);
        assert_eq!(word(second + 24), program.len());
    }
}
