use super::*;

fn file(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/pixels/heif");
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn turns_are_taken_in_their_order() {
    let both = |quarters, is_sideways| {
        let mut orientation = Orientation::UPRIGHT;
        for _ in 0..quarters {
            orientation = orientation.then_turned();
        }
        orientation.then_mirrored(is_sideways)
    };
    let back = |orientation: Orientation| {
        (0..4).fold(orientation, |orientation, _| orientation.then_turned())
    };
    assert_eq!(back(Orientation::UPRIGHT), Orientation::UPRIGHT);
    // Half a turn is to be mirrored twice.
    let twice = Orientation::UPRIGHT
        .then_mirrored(true)
        .then_mirrored(false);
    assert_eq!(twice, Orientation::UPRIGHT.then_turned().then_turned());
    assert_ne!(
        both(1, true),
        Orientation::UPRIGHT.then_mirrored(true).then_turned()
    );
    assert_eq!(
        both(1, true),
        Orientation::UPRIGHT.then_mirrored(false).then_turned()
    );
    // Pixels of a square go where they should.
    let square: Vec<u8> = (0..4).flat_map(|value| [value; 3]).collect();
    let mut turned = square.clone();
    Orientation::UPRIGHT.then_turned().apply(&mut turned, 2);
    let turned: Vec<u8> = turned.as_chunks::<3>().0.iter().map(|p| p[0]).collect();
    assert_eq!(turned, [1, 3, 0, 2]);
}

#[test]
fn a_crop_is_of_whole_pixels_within_the_picture() {
    let crop = |words: [u32; 8]| {
        let body = words.map(u32::to_be_bytes);
        let property = Property::read(*b"clap", Reader(body.as_flattened())).unwrap();
        match property {
            Property::Cropped(crop) => crop.within(100, 60),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(crop([100, 1, 60, 1, 0, 1, 0, 1]), Ok([0, 0, 100, 60]));
    let minus = |value: i32| value.cast_unsigned();
    let shifted = crop([80, 1, 40, 2, minus(-10), 1, 5, 1]);
    assert_eq!(shifted, Ok([0, 25, 80, 20]));
    for words in [
        [101, 1, 60, 1, 0, 1, 0, 1],
        [80, 1, 60, 1, 11, 1, 0, 1],
        [80, 1, 60, 1, minus(-11), 1, 0, 1],
        [80, 0, 60, 1, 0, 1, 0, 1],
        [80, 1, 60, 1, 0, 0, 0, 1],
        [81, 1, 60, 1, 0, 1, 0, 1],
        [0, 1, 60, 1, 0, 1, 0, 1],
        [u32::MAX, 1, 60, 1, minus(i32::MIN), u32::MAX, 0, 1],
    ] {
        assert!(crop(words).is_err(), "{words:?}");
    }
}

#[test]
fn profiles_are_found_at_the_picture_or_its_tiles() {
    for name in ["p3.heic", "grid-p3.heic", "p3.avif"] {
        let file = file(name);
        let heif = Heif::read(&file).unwrap();
        let is_profile = |property: Property| matches!(property, Property::Profile(profile) if profile[36..40] == *b"acsp");
        assert!(heif.colors().any(is_profile), "{name}");
    }
}

/// No byte makes it panic, take long or take much.
#[test]
fn whatever_it_says_it_is_read_to_the_end() {
    for name in ["grid-pieces.avif", "alpha.avif", "grid-p3.heic"] {
        let file = file(name);
        for at in 0..file.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF, file[at] ^ 4] {
                let mut damaged = file.clone();
                damaged[at] = value;
                let Ok(heif) = Heif::read(&damaged) else {
                    continue;
                };
                let _ = heif.shape(heif.primary);
                let _ = heif.alpha(heif.primary);
                let _ = heif.colors().count();
                for id in 0..9 {
                    let _ = heif.size(id);
                    let _ = heif.grid(id);
                    let _ = heif.data(id).map(|data| assert!(data.len() <= file.len()));
                }
            }
            let _ = Heif::read(&file[..at]);
        }
    }
}
