//! The boxes around pictures of the HEIF family: AVIF's all, HEIC's as far as their colours.
//!
//! A file holds items (coded pictures, grids of them, EXIF blocks …), each with properties that it may share with others, and
//! with references from one to another. Nothing in it is believed: whatever counts something is bounded, whatever points
//! somewhere is checked, and no item leads on for more than a step.

mod boxes;
mod property;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub(super) use boxes::Fault;
use boxes::{Reader, Result};
pub(super) use property::{Colors, Crop, Property};

use super::orient::Orientation;

/// Most of each in a file; phones write some hundred.
const MAX_ITEMS: usize = 4096;
const MAX_TARGETS: usize = 16 * MAX_ITEMS;
const MAX_PROPERTIES: usize = 4096;
/// Properties of one item, and pieces that its data lies in.
const MAX_OF_ITEM: usize = 64;
/// Pictures that a grid is made of.
const MAX_TILES: usize = 1024;

/// Where an item's data lies.
#[derive(Default)]
struct Place {
    in_meta: bool,
    /// Of places that this reader doesn't look at.
    is_elsewhere: bool,
    pieces: Vec<(u64, u64)>,
}

struct Item {
    id: u32,
    kind: [u8; 4],
    place: Place,
    /// Which properties, from 0, and whether they must be understood.
    properties: Vec<(usize, bool)>,
}

/// Pictures side by side that make one.
pub(super) struct Grid {
    pub columns: u32,
    pub rows: u32,
    pub width: u32,
    pub height: u32,
    /// Items, row by row.
    pub tiles: Vec<u32>,
}

/// A file's items.
pub(super) struct Heif<'a> {
    file: &'a [u8],
    idat: &'a [u8],
    /// The item to be shown.
    pub primary: u32,
    items: Vec<Item>,
    properties: Vec<Property<'a>>,
    /// Kind, from which item and to which others.
    references: Vec<([u8; 4], u32, Vec<u32>)>,
}

impl<'a> Heif<'a> {
    /// Reads the boxes; no item is looked into.
    pub fn read(file: &'a [u8]) -> Result<Self> {
        let mut meta = Reader(file).find(b"meta")?.ok_or(()).or_else(|()| {
            match Reader(file).find(b"moov")? {
                Some(_) => Err(Fault::Unsupported("no still picture")),
                None => Err(Fault::Cut),
            }
        })?;
        meta.version()?;
        let mut heif = Heif {
            file,
            idat: &[],
            primary: 0,
            items: Vec::new(),
            properties: Vec::new(),
            references: Vec::new(),
        };
        // First what the others speak of.
        if let Some(infos) = meta.find(b"iinf")? {
            heif.read_infos(infos)?;
        }
        let mut has_primary = false;
        while let Some((kind, mut body)) = meta.next_box()? {
            match &kind {
                b"pitm" => {
                    let (version, _) = body.version()?;
                    heif.primary = body.id(version > 0)?;
                    has_primary = true;
                }
                b"iloc" => heif.read_places(body)?,
                b"iref" => heif.read_references(body)?,
                b"iprp" => heif.read_properties(body)?,
                b"idat" => heif.idat = body.0,
                _ => {}
            }
        }
        match has_primary {
            true => Ok(heif),
            false => Err(Fault::Unsupported("no still picture")),
        }
    }

    fn read_infos(&mut self, mut body: Reader<'a>) -> Result<()> {
        let (version, _) = body.version()?;
        let count = body.id(version > 0)?;
        for _ in 0..count {
            let Some((kind, mut entry)) = body.next_box()? else {
                break;
            };
            let (version, _) = entry.version()?;
            // Older ones have no kind.
            if kind != *b"infe" || version < 2 {
                continue;
            }
            if self.items.len() == MAX_ITEMS {
                return Err(Fault::Unsupported("too many items"));
            }
            let id = entry.id(version > 2)?;
            let is_protected = entry.u16()? != 0;
            let kind = match is_protected {
                true => *b"----",
                false => entry.array()?,
            };
            self.items.push(Item {
                id,
                kind,
                place: Place::default(),
                properties: Vec::new(),
            });
        }
        // The first of those that have a number in common counts.
        self.items.sort_by_key(|item| item.id);
        self.items.dedup_by_key(|item| item.id);
        Ok(())
    }

    fn index(&self, id: u32) -> Option<usize> {
        self.items.binary_search_by_key(&id, |item| item.id).ok()
    }

    fn read_places(&mut self, mut body: Reader<'a>) -> Result<()> {
        let (version, _) = body.version()?;
        if version > 2 {
            return Err(Fault::Unsupported("places of a newer version"));
        }
        let sizes = body.u16()?;
        let [of_offset, of_length, of_base, of_index] =
            [12, 8, 4, 0].map(|shift| (sizes >> shift & 15) as u8);
        if [of_offset, of_length, of_base, of_index]
            .iter()
            .any(|&size| size > 8)
        {
            return Err(Fault::Damaged("numbers of more than 8 bytes"));
        }
        let count = body.id(version == 2)?;
        for _ in 0..count {
            let id = body.id(version == 2)?;
            let method = if version > 0 { body.u16()? & 15 } else { 0 };
            let source = body.u16()?;
            let base = body.uint(of_base)?;
            let extents = body.u16()?;
            if usize::from(extents) > MAX_OF_ITEM {
                return Err(Fault::Unsupported("data in too many pieces"));
            }
            let mut place = Place {
                in_meta: method == 1,
                is_elsewhere: method > 1 || source != 0,
                pieces: Vec::new(),
            };
            for _ in 0..extents {
                if version > 0 {
                    body.uint(of_index)?;
                }
                let offset = base.checked_add(body.uint(of_offset)?);
                let length = body.uint(of_length)?;
                place.pieces.push((offset.ok_or(Fault::Cut)?, length));
            }
            // What no `iinf` names is nothing.
            if let Some(index) = self.index(id) {
                self.items[index].place = place;
            }
        }
        Ok(())
    }

    fn read_references(&mut self, mut body: Reader<'a>) -> Result<()> {
        let (version, _) = body.version()?;
        let mut targets = 0;
        while let Some((kind, mut entry)) = body.next_box()? {
            let count = self.references.len();
            if count == MAX_ITEMS || targets > MAX_TARGETS {
                return Err(Fault::Unsupported("too many references"));
            }
            let from = entry.id(version > 0)?;
            let count = entry.u16()?;
            targets += usize::from(count);
            let to = (0..count).map(|_| entry.id(version > 0));
            self.references
                .push((kind, from, to.collect::<Result<_>>()?));
        }
        Ok(())
    }

    fn read_properties(&mut self, mut body: Reader<'a>) -> Result<()> {
        if let Some(mut all) = body.find(b"ipco")? {
            while let Some((kind, body)) = all.next_box()? {
                if self.properties.len() == MAX_PROPERTIES {
                    return Err(Fault::Unsupported("too many properties"));
                }
                self.properties.push(Property::read(kind, body)?);
            }
        }
        while let Some((kind, mut body)) = body.next_box()? {
            if kind != *b"ipma" {
                continue;
            }
            let (version, flags) = body.version()?;
            for _ in 0..body.u32()? {
                let id = body.id(version > 0)?;
                let index = self.index(id);
                for _ in 0..body.u8()? {
                    let (is_essential, number) = match flags & 1 {
                        0 => body.u8().map(|both| (both >> 7, u16::from(both & 0x7F)))?,
                        _ => body.u16().map(|both| ((both >> 15) as u8, both & 0x7FFF))?,
                    };
                    // Number 0 is none.
                    let (Some(index), Some(number)) = (index, number.checked_sub(1)) else {
                        continue;
                    };
                    let mine = &mut self.items[index].properties;
                    if mine.len() == MAX_OF_ITEM {
                        return Err(Fault::Unsupported("too many properties of an item"));
                    }
                    mine.push((number.into(), is_essential == 1));
                }
            }
        }
        Ok(())
    }

    fn item(&self, id: u32) -> Result<&Item> {
        let index = self.index(id).ok_or(Fault::Damaged("no such item"))?;
        Ok(&self.items[index])
    }

    /// What kind of item it is: `av01`, `grid` …
    pub fn kind(&self, id: u32) -> Result<[u8; 4]> {
        self.item(id).map(|item| item.kind)
    }

    /// An item's properties, in their order. One that must be understood and isn't is a fault.
    pub fn properties(&self, id: u32) -> Result<Vec<Property<'a>>> {
        let one = |&(number, is_essential): &(usize, bool)| match self.properties.get(number) {
            None => Err(Fault::Damaged("no such property")),
            Some(Property::Unknown) if is_essential => {
                Err(Fault::Unsupported("a property that must be understood"))
            }
            Some(property) => Ok(*property),
        };
        self.item(id)?.properties.iter().map(one).collect()
    }

    /// Width and height of an item, before it is turned.
    pub fn size(&self, id: u32) -> Result<(u32, u32)> {
        let mut properties = self.properties(id)?.into_iter();
        properties
            .find_map(|property| match property {
                Property::Size(width, height) => Some((width, height)),
                _ => None,
            })
            .ok_or(Fault::Damaged("an item without a size"))
    }

    /// How an item is turned and mirrored, and what is cut off before.
    pub fn shape(&self, id: u32) -> Result<(Orientation, Option<Crop>)> {
        let (mut orientation, mut crop) = (Orientation::UPRIGHT, None);
        for property in self.properties(id)? {
            match property {
                Property::Turned(quarters) => {
                    for _ in 0..quarters {
                        orientation = orientation.then_turned();
                    }
                }
                Property::Mirrored(axis) => orientation = orientation.then_mirrored(axis == 1),
                Property::Cropped(_) if crop.is_some() || orientation != Orientation::UPRIGHT => {
                    return Err(Fault::Unsupported("cropped after it was turned"));
                }
                Property::Cropped(how) => crop = Some(how),
                _ => {}
            }
        }
        Ok((orientation, crop))
    }

    /// Where an item refers to, by the first reference of a kind.
    fn referred(&self, kind: &[u8; 4], from: u32) -> &[u32] {
        let mut all = self.references.iter();
        all.find(|reference| reference.0 == *kind && reference.1 == from)
            .map_or(&[], |(_, _, to)| to)
    }

    /// The item whose brightness is how opaque `id` is, and whether the colours are multiplied by it.
    pub fn alpha(&self, id: u32) -> Option<(u32, bool)> {
        const PURPOSES: [&[u8]; 2] = [
            b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
            b"urn:mpeg:hevc:2015:auxid:1",
        ];
        let is_alpha = |item: u32| {
            let is_purpose = |property: &Property| matches!(property, Property::Purpose(purpose) if PURPOSES.contains(purpose));
            self.properties(item)
                .is_ok_and(|properties| properties.iter().any(is_purpose))
        };
        let alpha = self
            .references
            .iter()
            .filter(|(kind, _, to)| kind == b"auxl" && to.contains(&id))
            .map(|(_, from, _)| *from)
            .find(|&from| is_alpha(from))?;
        Some((alpha, self.referred(b"prem", id).contains(&alpha)))
    }

    /// How the pictures of a `grid` lie.
    pub fn grid(&self, id: u32) -> Result<Grid> {
        let data = self.data(id)?;
        let mut data = Reader(&data);
        data.u8()?;
        let is_long = data.u8()? & 1 != 0;
        let (rows, columns) = (u32::from(data.u8()?) + 1, u32::from(data.u8()?) + 1);
        let (width, height) = (data.id(is_long)?, data.id(is_long)?);
        let tiles = self.referred(b"dimg", id).to_vec();
        if (rows * columns) as usize > MAX_TILES {
            return Err(Fault::Unsupported("a grid of too many tiles"));
        }
        if tiles.len() != (rows * columns) as usize {
            return Err(Fault::Damaged("a grid of more or fewer tiles"));
        }
        Ok(Grid {
            columns,
            rows,
            width,
            height,
            tiles,
        })
    }

    /// Bytes of the whole file.
    pub fn len(&self) -> usize {
        self.file.len()
    }

    /// The bytes of an item, of all its pieces.
    pub fn data(&self, id: u32) -> Result<Cow<'a, [u8]>> {
        let place = &self.item(id)?.place;
        if place.is_elsewhere {
            return Err(Fault::Unsupported("data in another file"));
        }
        let all = if place.in_meta { self.idat } else { self.file };
        let mut data = Cow::from(&[][..]);
        for &(offset, length) in &place.pieces {
            let offset = usize::try_from(offset).map_err(|_| Fault::Cut)?;
            let rest = all.get(offset..).ok_or(Fault::Cut)?;
            let length = match length {
                // All that is left.
                0 => rest.len(),
                _ => usize::try_from(length).map_err(|_| Fault::Cut)?,
            };
            let piece = rest.get(..length).ok_or(Fault::Cut)?;
            // Pieces that overlap could make much of little.
            if data.len() + piece.len() > all.len() {
                return Err(Fault::Damaged("an item larger than its file"));
            }
            if data.is_empty() {
                data = piece.into();
            } else {
                data.to_mut().extend_from_slice(piece);
            }
        }
        match data.is_empty() {
            true => Err(Fault::Damaged("an item without data")),
            false => Ok(data),
        }
    }

    /// What the numbers of the picture's colours mean: its own properties, or those of a grid's first tile.
    pub fn colors(&self) -> impl Iterator<Item = Property<'a>> {
        let tile = self.referred(b"dimg", self.primary).first().copied();
        [Some(self.primary), tile]
            .into_iter()
            .flatten()
            .filter_map(|item| self.properties(item).ok())
            .flatten()
            .filter(|property| matches!(property, Property::Profile(_) | Property::Colors(_)))
    }
}
