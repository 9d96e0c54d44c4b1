//! Boxes, and the numbers in them.

/// What is wrong with a file; the words are for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It ends before what it promises.
    Cut,
    Damaged(&'static str),
    Unsupported(&'static str),
}

pub(crate) type Result<T> = std::result::Result<T, Fault>;

/// Reads numbers from the front, the largest byte first.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Fault::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Fault::Cut)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub fn u8(&mut self) -> Result<u8> {
        self.array().map(|[byte]| byte)
    }

    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Reads an unsigned integer of 0 to 8 bytes.
    pub fn uint(&mut self, bytes: u8) -> Result<u64> {
        let bytes = self.take(bytes.into())?;
        Ok(bytes
            .iter()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    /// Reads an item's id of 2 or 4 bytes.
    pub fn id(&mut self, is_long: bool) -> Result<u32> {
        match is_long {
            true => self.u32(),
            false => self.u16().map(u32::from),
        }
    }

    /// The version and the flags of a box that has them.
    pub fn version(&mut self) -> Result<(u8, u32)> {
        let both = self.u32()?;
        Ok(((both >> 24) as u8, both & 0xFF_FFFF))
    }

    /// The next box: its kind and what is in it. `None` at the end.
    pub fn next_box(&mut self) -> Result<Option<([u8; 4], Reader<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let length = self.u32()?;
        let kind = self.array()?;
        let body = match length {
            // To the end.
            0 => self.0.len(),
            1 => usize::try_from(self.uint(8)?)
                .ok()
                .and_then(|length| length.checked_sub(16))
                .ok_or(Fault::Damaged("a box is smaller than its head"))?,
            _ => (length as usize)
                .checked_sub(8)
                .ok_or(Fault::Damaged("a box is smaller than its head"))?,
        };
        Ok(Some((kind, Reader(self.take(body)?))))
    }

    pub fn find(mut self, kind: &[u8; 4]) -> Result<Option<Reader<'a>>> {
        while let Some((name, body)) = self.next_box()? {
            if name == *kind {
                return Ok(Some(body));
            }
        }
        Ok(None)
    }
}
