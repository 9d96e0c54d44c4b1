//! What might be asked first: by what is known of the picture before anybody has looked at it, and by what the checkpoint can do.

use super::picture::Picture;
use crate::i18n::T;

/// Words by which a file's name gives away that it is mostly to be read, in small letters.
const PAPERS: [&str; 10] = [
    "scan", "receipt", "invoice", "bill", "letter", "document", "发票", "扫描", "收据", "文档",
];
/// Those of a picture of a screen, as systems name them.
const SCREENS: [&str; 7] = [
    "screenshot",
    "screen shot",
    "screen_shot",
    "bildschirmfoto",
    "截屏",
    "截图",
    "屏幕",
];

/// Questions for a picture that nobody has suggested anything for.
pub fn suggested(picture: &Picture, demo: bool) -> [T; 3] {
    let name = picture.name.to_lowercase();
    let named = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match () {
        // Who looks closer mostly wants to read.
        () if picture.crop.is_some() => [T::SuggestRead, T::SuggestWhat, T::SuggestWhere],
        () if demo => [T::SuggestWhat, T::SuggestWhere, T::SuggestRead],
        () if named(&SCREENS) => [T::SuggestScreen, T::SuggestRead, T::SuggestDescribe],
        () if named(&PAPERS) => [T::SuggestRead, T::SuggestPoints, T::SuggestTable],
        () => [T::SuggestDescribe, T::SuggestRead, T::SuggestUnusual],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::picture::NewPicture;

    fn of(name: &str, demo: bool) -> T {
        let new = NewPicture {
            name: name.into(),
            ..NewPicture::default()
        };
        suggested(&Picture::new(new, 0.0), demo)[0]
    }

    #[test]
    fn they_fit_the_picture_and_the_checkpoint() {
        assert_eq!(of("IMG_2041.HEIC", false), T::SuggestDescribe);
        assert_eq!(of("Screenshot 2026-01-02.png", false), T::SuggestScreen);
        assert_eq!(of("屏幕截图.png", false), T::SuggestScreen);
        assert_eq!(of("Invoice 17.jpg", false), T::SuggestRead);
        // The demo checkpoint can count shapes; it can't tell what a screen is for.
        assert_eq!(of("Screenshot.png", true), T::SuggestWhat);
    }
}
