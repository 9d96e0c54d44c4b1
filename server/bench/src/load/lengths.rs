//! The first question of a length that the server was not asked before. What a number of rows takes (an algorithm for its
//! products, a buffer) should be there before anyone asks, or else whoever asks first waits for it.

use super::rounds::Script;
use super::server::Server;
use crate::report::Length;
use client::{About, Client, Failure};

/// In words. None is as long as the question that the rounds ask.
const WORDS: [usize; 5] = [4, 9, 17, 33, 70];
/// Later questions of each length.
const LATER: usize = 5;

/// Asks a server that is ready: for each length once, and then some more, each of other words, so that nothing of them is in
/// the cache but the picture.
///
/// # Errors
/// If a question was refused or failed.
pub async fn measure(server: &Server, script: &mut Script) -> Result<Vec<Length>, Failure> {
    let mut client = Client::connect(&server.url).await?;
    client.until_ready().await?;
    let about = About::Upload(client.upload(&script.picture()).await?.upload);
    // So that neither the picture nor the very first question is what is measured.
    client.ask(about, &script.prompt, 1).await?;
    client.image_encoded().await?;
    let mut lengths = Vec::new();
    for words in WORDS {
        let mut took = Vec::with_capacity(1 + LATER);
        for number in 0..=LATER {
            let answer = client.ask(about, &question(words, number), 1).await?;
            took.push(answer.first_token_ms());
            client.acknowledge().await?;
        }
        let later = took.split_off(1);
        let first = took.remove(0);
        lengths.push(Length {
            words,
            first,
            later,
        });
    }
    client.close().await;
    Ok(lengths)
}

/// So many words of one letter, which are one token each in most vocabularies; another `number` begins with another.
fn question(words: usize, number: usize) -> String {
    let letters = ('a'..='z').cycle().skip(number).take(words);
    letters.map(String::from).collect::<Vec<String>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_of_a_length_begin_differently() {
        assert_eq!(question(4, 0), "a b c d");
        assert_eq!(question(4, 1), "b c d e");
        assert_eq!(question(70, 5).split(' ').count(), 70);
    }

    #[test]
    fn the_first_is_held_against_the_later_ones() {
        let length = |later: &[f64]| Length {
            words: 4,
            first: 30.0,
            later: later.to_vec(),
        };
        assert_eq!(length(&[10.0, 20.0, 10.0]).ratio(), Some(3.0));
        assert_eq!(length(&[]).ratio(), None);
    }
}
