//! The decoder against candle-transformers' GLM-4, which reads the same checkpoints and was written by others. It has no
//! pictures, and of a prompt it tells the last scores alone.

use std::path::{Path, PathBuf};

use glimpse_tests::decoders::{Decoder, Ours, Theirs, language, likeliest, prompt};

use crate::support::data;

/// Tokens that follow each prompt, one at a time.
const TOKENS: usize = 24;
const QUESTIONS: [&str; 4] = [
    "a",
    "how many cats are in the picture, and where does the 2nd cat sit?",
    "图里有几只猫?",
    "the cat saw how the other cat ate, and then the third cat came; how many cats is that in all, the kittens left out?",
];

/// The demo, and those of the small ones that candle-transformers can load.
fn folders() -> Vec<PathBuf> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/demo");
    let square = ["square-f32", "square-bf16"].map(|name| data("checkpoints").join(name));
    [demo].into_iter().chain(square).collect()
}

fn difference(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let pairs = ours.iter().zip(theirs);
    pairs.fold(0.0, |most, (a, b)| {
        assert!(a.is_finite() && b.is_finite());
        most.max((a - b).abs())
    })
}

#[test]
fn another_decoder_of_the_same_checkpoint_says_the_same_to_1e_4() {
    for folder in folders() {
        let language = language(&folder).unwrap();
        let (mut ours, mut theirs) = (Ours::open(&folder).unwrap(), Theirs::open(&folder).unwrap());
        let mut most = 0f32;
        let mut largest = 0f32;
        for question in QUESTIONS {
            let mut next = prompt(&language, question).unwrap();
            for _ in 0..=TOKENS {
                let (a, b) = (ours.next(&next).unwrap(), theirs.next(&next).unwrap());
                most = most.max(difference(&a, &b));
                largest = a.iter().fold(largest, |most, x| most.max(x.abs()));
                next = vec![likeliest(&a)];
            }
            ours.forget();
            theirs.forget();
        }
        println!(
            "{}: {most:.1e} apart, the largest {largest:.1}",
            folder.display()
        );
        assert!(most < 1e-4, "{}: {most:.1e} apart", folder.display());
    }
}

#[test]
fn it_is_a_second_opinion_and_not_the_first_one_again() {
    let folder = data("checkpoints").join("square-f32");
    let (mut ours, mut theirs) = (Ours::open(&folder).unwrap(), Theirs::open(&folder).unwrap());
    let (a, b) = (
        ours.next(&[1, 2, 3]).unwrap(),
        theirs.next(&[1, 2, 4]).unwrap(),
    );
    assert!(difference(&a, &b) > 1e-2);
}
