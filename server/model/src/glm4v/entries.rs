//! What a prompt becomes in the cache: a picture's placeholders give way to its vectors, which share a position.

use super::Config;

/// What stands at a place of the cache: a token, or one of the picture's inner vectors.
pub type Entry = u32;

/// The entry of a picture's inner vector.
pub const IMAGE: Entry = u32::MAX;

/// A prompt as the cache holds it.
pub struct Prompt {
    /// With the picture's vectors in the place of its placeholders.
    pub entries: Vec<Entry>,
    /// How many of the entries are the picture's.
    pub image_entries: usize,
}

/// Puts a picture's vectors in the place of its placeholders: `begin, anything, end` becomes
/// `begin, IMAGE × vectors, end`. Only a picture can bring `begin` into a prompt.
pub fn expand(ids: Vec<u32>, config: &Config) -> Prompt {
    let (begin, end) = (config.boi_token_id, config.eoi_token_id);
    let Some(at) = ids.windows(3).position(|w| w[0] == begin && w[2] == end) else {
        return Prompt {
            entries: ids,
            image_entries: 0,
        };
    };
    let mut entries = ids[..=at].to_vec();
    entries.extend(std::iter::repeat_n(IMAGE, config.vision_config.vectors()));
    entries.extend_from_slice(&ids[at + 2..]);
    Prompt {
        entries,
        image_entries: config.image_tokens(),
    }
}

/// The position of each of `entries`, from the `from`th on: the inner vectors of a picture share one.
pub fn positions(entries: &[Entry], from: usize) -> Vec<u32> {
    let mut next = 0;
    let mut positions = Vec::with_capacity(entries.len() - from);
    for (i, entry) in entries.iter().enumerate() {
        let repeats = *entry == IMAGE && i > 0 && entries[i - 1] == IMAGE;
        if !repeats {
            next += 1;
        }
        if i >= from {
            positions.push(next - 1);
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_takes_its_placeholders_place() {
        let json = include_bytes!("../../../../tests/data/glm-4v-9b.config.json");
        let config = Config::parse(json).unwrap();
        let (begin, end) = (config.boi_token_id, config.eoi_token_id);
        let prompt = expand(vec![1, 2, begin, 0, end, 7], &config);
        assert_eq!(prompt.entries.len(), 1605);
        assert_eq!(prompt.entries[..4], [1, 2, begin, IMAGE]);
        assert_eq!(prompt.entries[1602..], [IMAGE, end, 7]);
        assert_eq!(prompt.image_entries, 1602);
        assert_eq!(expand(vec![1, 2, 3], &config).entries, [1, 2, 3]);
    }

    #[test]
    fn the_vectors_of_a_picture_share_a_position() {
        let entries = [10, 11, 12, IMAGE, IMAGE, IMAGE, 13, 14];
        assert_eq!(positions(&entries, 0), [0, 1, 2, 3, 3, 3, 4, 5]);
        assert_eq!(positions(&entries, 4), [3, 3, 4, 5]);
    }
}
