//! Whether a text is in a language that the model has learned.
//!
//! What enters: a text as the tokenizer has cut it. What leaves: the share of it that the model does not know, 0 to 1.
//! Promise: masks, numbers and punctuation count for nothing. Absent on purpose: naming the language.

use tokenizers::{Encoding, ModelWrapper, Tokenizer};

/// What there is to tell whether a text is in a language that the model has learned.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vocabulary {
    /// What stands for what the tokenizer does not know.
    unknown: Option<u32>,
    /// Words are put together from the longest pieces there are, so that a strange one falls to pieces.
    is_word_piece: bool,
}

/// Pieces that a word of Latin letters may have, whatever their length: abbreviations (`sshd`, `psql`) and `à` are short.
const ABBREVIATION_PIECES: usize = 3;

/// Letters of Unicode's Latin blocks.
fn is_latin(letter: char) -> bool {
    matches!(letter, '\0'..'\u{250}' | '\u{1e00}'..='\u{1eff}')
}

impl Vocabulary {
    pub(super) fn of(tokenizer: &Tokenizer) -> Self {
        let unknown = ["[UNK]", "<unk>"].iter().find_map(|name| tokenizer.token_to_id(name));
        Self {
            unknown,
            is_word_piece: matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_)),
        }
    }

    /// Share of a text's tokens, of those that belong to words, whose word the model does not know. Masks like `<n>`,
    /// numbers and punctuation say nothing of the language; a text of nothing else is taken as known.
    ///
    /// The tokenizer of an English model knows nearly every letter of every script, so the unknown token alone tells
    /// little: what tells a foreign script is that its words fall to single letters. The number of pieces would not do:
    /// `NullPointerException` has five, but they mean something, and so do the pieces of a German word.
    pub(super) fn unknown_share(&self, text: &str, encoding: &Encoding) -> f32 {
        let tokens: Vec<_> = (encoding.get_word_ids().iter())
            .zip(encoding.get_ids())
            .zip(encoding.get_offsets())
            .collect();
        let (mut all, mut unknown) = (0usize, 0usize);
        for pieces in tokens.chunk_by(|((left, _), _), ((right, _), _)| left == right) {
            let (Some(((Some(_), _), (start, _))), Some((_, (_, end)))) = (pieces.first(), pieces.last()) else {
                continue;
            };
            let word = text.get(*start..*end).unwrap_or_default();
            if !word.contains(char::is_alphabetic) {
                continue;
            }
            let in_letters = word.chars().count() < 2 * pieces.len();
            let abbreviation = word.chars().all(is_latin) && pieces.len() <= ABBREVIATION_PIECES;
            let no_word = pieces.iter().any(|((_, id), _)| self.unknown == Some(**id));
            all += pieces.len();
            if no_word || self.is_word_piece && in_letters && !abbreviation {
                unknown += pieces.len();
            }
        }
        unknown as f32 / all.max(1) as f32
    }
}
