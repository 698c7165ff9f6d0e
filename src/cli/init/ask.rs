//! Questions on stderr, answers from stdin: a line each.

use crate::cli::{exit::Failure, output};
use std::{
    fmt::Display,
    io::{self, BufRead, BufReader},
};

/// Wrong answers to one question before it is given up.
const TRIES: usize = 5;

/// Who asks.
pub(super) struct Asker {
    answers: Box<dyn BufRead>,
    /// Takes the usual answer, and asks nothing.
    pub silent: bool,
}

impl Asker {
    /// Somebody at the terminal, or a file.
    pub fn of_terminal() -> Self {
        Self { answers: Box::new(BufReader::new(io::stdin())), silent: false }
    }

    /// The answer to a question; an empty line is the usual one.
    ///
    /// # Errors
    /// When it can't be understood, there is none, or there are no more lines.
    pub fn ask<T, E: Display>(
        &mut self,
        question: &str,
        usual: &str,
        parse: &dyn Fn(&str) -> Result<T, E>,
    ) -> Result<T, Failure> {
        let unanswered =
            |why: &dyn Display| Failure::usage(format!("{question}: {why}; `tidegate init --help` has the option"));
        if self.silent {
            return parse(usual).map_err(|error| unanswered(&error));
        }
        let brackets = if usual.is_empty() { String::new() } else { format!(" [{usual}]") };
        for _ in 0..TRIES {
            output::message(&format!("{question}{brackets}"));
            let Some(line) = self.line()? else { return Err(unanswered(&"there was no answer")) };
            let answer = line.trim();
            match parse(if answer.is_empty() { usual } else { answer }) {
                Ok(answer) => return Ok(answer),
                Err(error) => output::message(&format!("  {error}")),
            }
        }
        Err(unanswered(&"no answer could be understood"))
    }

    /// Lines up to an empty one.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn lines(&mut self, question: &str) -> Result<String, Failure> {
        let mut text = String::new();
        if self.silent {
            return Ok(text);
        }
        output::message(question);
        while let Some(line) = self.line()?.filter(|line| !line.trim().is_empty()) {
            text.push_str(&line);
        }
        Ok(text)
    }

    fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        let read = self.answers.read_line(&mut line);
        let read = read.map_err(|error| Failure::failed(format!("could not read an answer: {error}")))?;
        Ok((read > 0).then_some(line))
    }
}

#[cfg(test)]
impl Asker {
    /// Somebody who answers this.
    pub fn answered(text: &'static str) -> Self {
        Self { answers: Box::new(text.as_bytes()), silent: false }
    }
}
