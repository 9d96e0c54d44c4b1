//! A build that holds answers to no format: what it has of one says so and can't be made.

use std::convert::Infallible;

use api::AnswerFormat;

use super::{TextError, Tokenizer};

/// Compiles no formats.
pub struct Grammars(Infallible);

impl Grammars {
    /// # Errors
    /// Always.
    pub fn new(_: &Tokenizer, _: &[u32], _: usize) -> Result<Self, TextError> {
        let problem = "this server was built without formats (the feature `formats`)";
        Err(TextError::Format(problem.into()))
    }

    pub fn compile(&self, _: &AnswerFormat) -> Result<Grammar, TextError> {
        match self.0 {}
    }
}

/// Holds no answer to a format.
pub struct Grammar(Infallible);

impl Grammar {
    pub fn is_outside(&self, _: u32, _: usize) -> bool {
        match self.0 {}
    }

    pub fn accept(&mut self, _: &[u32]) -> Result<(), TextError> {
        match self.0 {}
    }

    pub fn advance(&mut self, _: Option<u32>) {
        match self.0 {}
    }

    pub fn mask(&mut self, _: &mut [f32], _: usize) -> Result<(), TextError> {
        match self.0 {}
    }
}
