//! What is taken of whatever a drag or the clipboard carries.

use crate::i18n::T;

/// A file, as far as the browser tells of it before anybody reads it.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// As in `image/png`; empty where the browser does not know.
    pub kind: String,
    pub bytes: u64,
    pub folder: bool,
}

/// What a drag or the clipboard carries.
#[derive(Debug, Default)]
pub struct Carried {
    pub files: Vec<File>,
    /// Words are with it.
    pub text: bool,
    /// Addresses that the transfer names: links, and the pictures in its HTML.
    pub addresses: Vec<String>,
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// The file at this place.
    File(usize),
    /// The picture that this `data:` address is.
    Data(String),
    /// Nothing, for this reason.
    Not(T),
}

/// Whether a drag is the page's: all are, but for words and links over a field that they can be dropped into.
pub fn ours(over_text: bool, files: bool) -> bool {
    files || !over_text
}

/// What is taken of files that were chosen or dropped, or of whatever else a drag carries.
pub fn dropped(carried: &Carried) -> Option<Taken> {
    let web = |address: &String| address.starts_with("http:") || address.starts_with("https:");
    file(carried)
        .or_else(|| data(carried))
        .or_else(|| {
            carried
                .addresses
                .iter()
                .any(web)
                .then_some(Taken::Not(T::SaveFirst))
        })
        .or_else(|| useless(carried))
}

/// What is taken of the clipboard. Where words can be typed, words win: a spreadsheet puts its cells there as a picture too.
pub fn pasted(carried: &Carried, into_text: bool) -> Option<Taken> {
    if into_text && carried.text {
        return None;
    }
    file(carried)
        .or_else(|| data(carried))
        .or_else(|| useless(carried))
}

/// The first file that may be a picture. One whose kind the browser does not know may well be: the server decides.
fn file(carried: &Carried) -> Option<Taken> {
    let picture = |file: &File| {
        !file.folder && file.bytes > 0 && (file.kind.is_empty() || file.kind.starts_with("image/"))
    };
    carried.files.iter().position(picture).map(Taken::File)
}

fn data(carried: &Carried) -> Option<Taken> {
    let picture = |address: &&String| split(address).is_some();
    let found = carried.addresses.iter().find(picture);
    found.cloned().map(Taken::Data)
}

/// Why none of the files is taken.
fn useless(carried: &Carried) -> Option<Taken> {
    let first = carried.files.first()?;
    Some(Taken::Not(if first.folder {
        T::Folder
    } else if first.bytes == 0 {
        T::EmptyFile
    } else {
        T::NotAPicture
    }))
}

/// Kind and base64 of a `data:` address that is a picture.
pub fn split(address: &str) -> Option<(&str, &str)> {
    let (head, body) = address.strip_prefix("data:")?.split_once(',')?;
    let kind = head.strip_suffix(";base64")?;
    kind.starts_with("image/").then_some((kind, body))
}

/// The addresses of a `text/uri-list`, which a drag of a link or a picture carries.
pub fn listed(uris: &str) -> impl Iterator<Item = String> {
    let lines = uris.lines().map(str::trim);
    let named = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    named.map(str::to_owned)
}

/// The addresses of the pictures in a piece of HTML.
pub fn drawn(html: &str) -> impl Iterator<Item = String> {
    html.split("<img").skip(1).filter_map(|rest| {
        let tag = rest.split('>').next()?;
        let (_, value) = tag.split_once("src=")?;
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        value.split(quote).nth(1).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: &str, bytes: u64) -> File {
        File {
            kind: kind.into(),
            bytes,
            folder: false,
        }
    }

    fn files(files: &[File]) -> Carried {
        Carried {
            files: files.to_vec(),
            ..Carried::default()
        }
    }

    fn addresses(addresses: impl Iterator<Item = String>) -> Carried {
        Carried {
            addresses: addresses.collect(),
            ..Carried::default()
        }
    }

    #[test]
    fn the_first_file_that_may_be_a_picture_is_taken() {
        let some = [file("text/plain", 1), file("image/png", 1), file("", 1)];
        assert_eq!(dropped(&files(&some)), Some(Taken::File(1)));
        let unknown = [file("application/pdf", 1), file("", 1)];
        assert_eq!(dropped(&files(&unknown)), Some(Taken::File(1)));
        assert_eq!(dropped(&files(&[])), None);
    }

    #[test]
    fn what_can_be_no_picture_is_not_taken_and_that_is_said() {
        let not = |file: File| dropped(&files(&[file]));
        assert_eq!(not(file("image/png", 0)), Some(Taken::Not(T::EmptyFile)));
        let pdf = file("application/pdf", 9);
        assert_eq!(not(pdf), Some(Taken::Not(T::NotAPicture)));
        let folder = File {
            folder: true,
            ..file("", 4096)
        };
        assert_eq!(not(folder), Some(Taken::Not(T::Folder)));
    }

    #[test]
    fn a_picture_of_another_page_is_taken_where_it_is_in_the_drag() {
        let png = "data:image/png;base64,AAAA";
        let taken = Some(Taken::Data(png.into()));
        assert_eq!(dropped(&addresses(listed(png))), taken);
        let html = format!("<meta charset=utf-8><img alt='a' src=\"{png}\">");
        assert_eq!(dropped(&addresses(drawn(&html))), taken);
        for other in [
            "data:text/html,<b>",
            "data:image/svg+xml,<svg>",
            "mailto:a@b",
        ] {
            assert_eq!(dropped(&addresses(listed(other))), None, "{other}");
        }
        let web = "# a comment\r\nhttps://example.org/cat.png\r\n";
        let said = Some(Taken::Not(T::SaveFirst));
        assert_eq!(dropped(&addresses(listed(web))), said);
        let both = Carried {
            files: vec![file("image/png", 9)],
            ..addresses(listed(web))
        };
        assert_eq!(dropped(&both), Some(Taken::File(0)));
        let link = addresses(listed(web));
        assert_eq!(pasted(&link, false), None);
    }

    #[test]
    fn words_win_where_words_can_be_typed() {
        let cells = Carried {
            text: true,
            ..files(&[file("image/png", 9)])
        };
        assert_eq!(pasted(&cells, true), None);
        assert_eq!(pasted(&cells, false), Some(Taken::File(0)));
        let shot = files(&[file("image/png", 9)]);
        assert_eq!(pasted(&shot, true), Some(Taken::File(0)));
    }

    #[test]
    fn only_words_and_links_are_left_to_a_text_field() {
        assert!(ours(false, false) && ours(false, true) && ours(true, true));
        assert!(!ours(true, false));
    }
}
