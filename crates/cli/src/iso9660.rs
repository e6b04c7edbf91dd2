//! A small ISO 9660 image: a few files in the root directory, which is all that a NoCloud seed needs.
//!
//! What must always hold: what Linux and cloud-init mount: the label is `CIDATA`, and a name reads in lower case without
//! its version, as `isofs` shows it. Numbers stand in both byte orders where the standard (ECMA-119) says so.
//! Left out: subdirectories, Joliet and Rock Ridge, times.

/// The unit of everything.
const SECTOR: usize = 2048;
/// The first 16 sectors belong to the system.
const VOLUME: usize = 16;
const PATHS_LITTLE: u32 = 18;
const PATHS_BIG: u32 = 19;
const ROOT: u32 = 20;
const FIRST_FILE: u32 = 21;
const PATH_TABLE_LENGTH: u32 = 10;

/// The image with these files; names are of letters, digits and `-`, and all entries fit one sector.
pub(crate) fn image(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut sorted = files.to_vec();
    sorted.sort();
    let mut root = entry(&[0], ROOT, length(SECTOR), true);
    root.extend(entry(&[1], ROOT, length(SECTOR), true));
    let mut content = Vec::new();
    for (name, bytes) in &sorted {
        let at = FIRST_FILE + length(content.len() / SECTOR);
        let name = format!("{}.;1", name.to_uppercase());
        root.extend(entry(name.as_bytes(), at, length(bytes.len()), false));
        content.extend_from_slice(bytes);
        pad(&mut content);
    }
    let sectors = FIRST_FILE + length(content.len() / SECTOR);
    let mut made = vec![0; VOLUME * SECTOR];
    for part in [descriptor(sectors), end(), path_table(true), path_table(false), root, content] {
        made.extend(part);
        pad(&mut made);
    }
    made
}

fn descriptor(sectors: u32) -> Vec<u8> {
    let mut made = vec![1];
    made.extend(b"CD001\x01\0");
    made.extend(spaced("", 32));
    made.extend(spaced("CIDATA", 32));
    made.extend([0; 8]);
    made.extend(both32(sectors));
    made.extend([0; 32]);
    // One volume, the first, of 2 048 byte blocks.
    made.extend([both16(1), both16(1), both16(2048)].concat());
    made.extend(both32(PATH_TABLE_LENGTH));
    made.extend([PATHS_LITTLE.to_le_bytes(), [0; 4], PATHS_BIG.to_be_bytes(), [0; 4]].concat());
    made.extend(entry(&[0], ROOT, length(SECTOR), true));
    // Set, publisher, preparer, application; copyright, abstract and bibliography.
    made.extend(spaced("", 4 * 128 + 3 * 37));
    // No time of creation, change, expiry and effect.
    made.extend([[b'0'; 16].as_slice(), &[0]].concat().repeat(4));
    made.extend([1, 0]);
    made
}

fn end() -> Vec<u8> {
    b"\xffCD001\x01".to_vec()
}

/// The root alone, its own parent.
fn path_table(little: bool) -> Vec<u8> {
    let (at, parent) = match little {
        true => (ROOT.to_le_bytes(), 1_u16.to_le_bytes()),
        false => (ROOT.to_be_bytes(), 1_u16.to_be_bytes()),
    };
    [&[1, 0], at.as_slice(), &parent, &[0, 0]].concat()
}

fn entry(name: &[u8], at: u32, bytes: u32, is_directory: bool) -> Vec<u8> {
    let mut made = vec![0, 0];
    made.extend(both32(at));
    made.extend(both32(bytes));
    // No time.
    made.extend([0; 7]);
    made.extend([if is_directory { 2 } else { 0 }, 0, 0]);
    made.extend(both16(1));
    made.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    made.extend(name);
    if !made.len().is_multiple_of(2) {
        made.push(0);
    }
    made[0] = u8::try_from(made.len()).unwrap_or(u8::MAX);
    made
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
}

fn spaced(text: &str, width: usize) -> Vec<u8> {
    format!("{text:<width$}").into_bytes()
}

fn both16(number: u16) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

fn both32(number: u32) -> Vec<u8> {
    [number.to_le_bytes(), number.to_be_bytes()].concat()
}

/// A seed is some kilobytes.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use super::{SECTOR, image};

    /// Looks a file up as a reader does: descriptor, root directory, entry.
    fn read(image: &[u8], wanted: &str) -> Option<Vec<u8>> {
        let number = |at: usize| {
            let little = u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
            assert_eq!(little, u32::from_be_bytes(image[at + 4..at + 8].try_into().unwrap()));
            usize::try_from(little).unwrap()
        };
        let volume = 16 * SECTOR;
        assert_eq!(&image[volume..volume + 6], b"\x01CD001");
        assert_eq!(number(volume + 80) * SECTOR, image.len());
        let mut at = number(volume + 156 + 2) * SECTOR;
        while image[at] != 0 {
            let name = &image[at + 33..at + 33 + usize::from(image[at + 32])];
            if name == wanted.as_bytes() {
                let (start, length) = (number(at + 2) * SECTOR, number(at + 10));
                return Some(image[start..start + length].to_vec());
            }
            at += usize::from(image[at]);
        }
        None
    }

    #[test]
    fn files_are_found_by_their_names() {
        let long = vec![7; 5000];
        let made = image(&[("user-data", &long), ("meta-data", b"{}"), ("vendor-data", b"")]);
        assert_eq!(read(&made, "USER-DATA.;1").unwrap(), long);
        assert_eq!(read(&made, "META-DATA.;1").unwrap(), b"{}");
        assert_eq!(read(&made, "VENDOR-DATA.;1").unwrap(), b"");
        assert_eq!(read(&made, "OTHER.;1"), None);
    }

    #[test]
    fn others_see_the_label() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seed.iso");
        fs::write(&path, image(&[("meta-data", b"{}"), ("user-data", b"")])).unwrap();
        let Ok(told) = Command::new("blkid").args(["-p", "-o", "export"]).arg(&path).output()
        else {
            eprintln!("SKIPPED: blkid is not installed");
            return;
        };
        let told = String::from_utf8(told.stdout).unwrap();
        assert!(told.contains("LABEL=CIDATA") && told.contains("TYPE=iso9660"), "{told}");
    }
}
