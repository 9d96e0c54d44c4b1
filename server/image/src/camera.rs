//! Cameras' raw files: told from pictures, because what a decoder finds in them is a thumbnail.

/// Directories of a TIFF that are looked at, and entries of each.
const DIRECTORIES: usize = 16;
const ENTRIES: usize = 512;

const COMPRESSION: u16 = 0x0103;
const PHOTOMETRIC: u16 = 0x0106;
const SUB_DIRECTORIES: u16 = 0x014a;
const DNG_VERSION: u16 = 0xc612;

/// Whether `bytes` begin a raw file of a camera's.
pub(super) fn is_raw(bytes: &[u8]) -> bool {
    match bytes {
        // Olympus, Panasonic, Fujifilm, Sigma, Minolta, Canon's oldest.
        [b'I', b'I', b'R', b'O' | b'S', ..]
        | [b'M', b'M', b'O', b'R', ..]
        | [b'I', b'I', b'U', 0, ..] => true,
        [b'F', b'O', b'V', b'b', ..] | [0, b'M', b'R', b'M', ..] => true,
        [b'I', b'I', 0x2a, 0, ..] if bytes.get(8..10) == Some(b"CR") => true,
        [b'I', b'I', 0x2a, 0, ..] | [b'M', b'M', 0, 0x2a, ..] => Tiff::new(bytes).is_raw(),
        _ => {
            bytes.starts_with(b"FUJIFILMCCD-RAW")
                || bytes.get(6..14) == Some(b"HEAPCCDR")
                || bytes.get(4..12) == Some(b"ftypcrx ")
        }
    }
}

struct Tiff<'a> {
    bytes: &'a [u8],
    is_little: bool,
}

impl<'a> Tiff<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Tiff {
            bytes,
            is_little: bytes[0] == b'I',
        }
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let two = *self.bytes.get(at..)?.first_chunk()?;
        Some(match self.is_little {
            true => u16::from_le_bytes(two),
            false => u16::from_be_bytes(two),
        })
    }

    fn u32(&self, at: usize) -> Option<usize> {
        let four = *self.bytes.get(at..)?.first_chunk()?;
        Some(match self.is_little {
            true => u32::from_le_bytes(four),
            false => u32::from_be_bytes(four),
        } as usize)
    }

    /// Whether a directory says that it is a DNG, or describes a sensor's values or a camera maker's own compression.
    fn is_raw(&self) -> bool {
        let mut waiting: Vec<usize> = self.u32(4).into_iter().collect();
        let mut seen = 0;
        while let Some(directory) = waiting.pop()
            && seen < DIRECTORIES
        {
            seen += 1;
            let Some(count) = self.u16(directory) else {
                continue;
            };
            let count = usize::from(count);
            for entry in (0..count.min(ENTRIES)).map(|index| directory + 2 + 12 * index) {
                let (Some(tag), Some(kind), Some(length)) =
                    (self.u16(entry), self.u16(entry + 2), self.u32(entry + 4))
                else {
                    break;
                };
                let short = self.u16(entry + 8).filter(|_| kind == 3 && length == 1);
                match (tag, short) {
                    (DNG_VERSION, _) => return true,
                    // A colour filter's mosaic, or values linear in light.
                    (PHOTOMETRIC, Some(32803 | 34892)) => return true,
                    // Sony's, Nikon's, Pentax's, Kodak's, Samsung's.
                    (COMPRESSION, Some(32767 | 34713 | 65535 | 65000 | 32769 | 32770 | 32772)) => {
                        return true;
                    }
                    (SUB_DIRECTORIES, _) if length == 1 => waiting.extend(self.u32(entry + 8)),
                    (SUB_DIRECTORIES, _) => {
                        let list = self.u32(entry + 8).unwrap_or(usize::MAX);
                        waiting.extend(
                            (0..length.min(DIRECTORIES))
                                .filter_map(|index| self.u32(list.checked_add(4 * index)?)),
                        );
                    }
                    _ => {}
                }
            }
            // The next one, unless there is none.
            waiting.extend(
                self.u32(directory + 2 + 12 * count)
                    .filter(|&next| next != 0),
            );
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF of directories, each of (tag, type, count, value).
    fn tiff(directories: &[&[(u16, u16, u32, u32)]], is_little: bool) -> Vec<u8> {
        let two = |v: u16| {
            if is_little {
                v.to_le_bytes()
            } else {
                v.to_be_bytes()
            }
        };
        let four = |v: u32| {
            if is_little {
                v.to_le_bytes()
            } else {
                v.to_be_bytes()
            }
        };
        let mut file = if is_little {
            b"II".to_vec()
        } else {
            b"MM".to_vec()
        };
        file.extend(two(42));
        file.extend(four(8));
        for entries in directories {
            file.extend(two(entries.len() as u16));
            for &(tag, kind, count, value) in *entries {
                file.extend(two(tag));
                file.extend(two(kind));
                file.extend(four(count));
                match kind {
                    3 => file.extend([two(value as u16), [0; 2]].as_flattened()),
                    _ => file.extend(four(value)),
                }
            }
            let next = file.len() as u32 + 4;
            file.extend(four(if entries.len() == 1 { 0 } else { next }));
        }
        file
    }

    #[test]
    fn raw_files_are_told_from_pictures() {
        for is_little in [true, false] {
            let file = |entries: &[&[_]]| is_raw(&tiff(entries, is_little));
            assert!(file(&[&[(0xc612, 1, 4, 1)]]));
            assert!(file(&[&[(262, 3, 1, 32803)]]));
            assert!(file(&[&[(259, 3, 1, 34713)]]));
            // In a directory that the first one names, and in the one after it.
            assert!(file(&[
                &[(330, 4, 1, 38), (259, 3, 1, 1)],
                &[(262, 3, 1, 32803)]
            ]));
            assert!(file(&[
                &[(271, 2, 4, 0), (259, 3, 1, 1)],
                &[(262, 3, 1, 34892)]
            ]));
            // A scanner's, with a preview; one that names itself; one cut off.
            assert!(!file(&[
                &[(271, 2, 4, 0), (330, 4, 1, 38)],
                &[(262, 3, 1, 2)]
            ]));
            assert!(!file(&[&[(330, 4, 1, 8), (262, 3, 1, 2)]]));
            assert!(!file(&[&[(330, 4, 60_000, 0), (262, 3, 1, 6)]]));
            assert!(!is_raw(&tiff(&[&[(262, 3, 1, 2)]], is_little)[..12]));
        }
        for begin in [
            &b"IIRO"[..],
            b"IIRS",
            b"MMOR",
            b"IIU\0",
            b"FUJIFILMCCD-RAW ",
            b"II*\0\x10\0\0\0CR\x02\0",
            b"\0\0\0\x18ftypcrx ",
        ] {
            assert!(is_raw(begin));
        }
        assert!(!is_raw(b"\0\0\0\x18ftypmp42"));
    }
}
