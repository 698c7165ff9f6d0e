//! One operation of the API, as its description needs it.

use actix_web::http::Method;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// Makes the schema of a type.
pub(super) type Taken = fn(&mut SchemaGenerator) -> Schema;

/// What is answered when all is well.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// Text of a media type.
    Text(&'static str),
    /// JSON.
    Json(Taken),
    /// Lines of JSON, each of this form.
    Lines(Taken),
}

/// One operation.
pub(super) struct Operation {
    pub method: Method,
    pub path: &'static str,
    /// Its name for programs.
    pub id: &'static str,
    pub tag: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// The form of its query, where it takes one.
    pub query: Option<Taken>,
    /// The form of its body, where it takes one.
    pub body: Option<Taken>,
    pub answer: Answer,
    /// Whether it may be bound to a version (`If-Match`, `If-None-Match`).
    pub conditional: bool,
}

impl Operation {
    pub(super) fn new(
        method: Method,
        path: &'static str,
        (id, tag, summary): (&'static str, &'static str, &'static str),
        answer: Answer,
    ) -> Self {
        Self { method, path, id, tag, summary, query: None, body: None, answer, conditional: false }
    }
    pub(super) fn query<T: JsonSchema>(self) -> Self {
        Self { query: Some(schema::<T>), ..self }
    }
    pub(super) fn body<T: JsonSchema>(self) -> Self {
        Self { body: Some(schema::<T>), ..self }
    }
    /// It may be bound to a version.
    pub(super) fn conditional(self) -> Self {
        Self { conditional: true, ..self }
    }
    /// What the answer is, in words.
    pub(super) fn answered(&self) -> &'static str {
        match self.answer {
            Answer::Text(_) => "Text",
            Answer::Json(_) => "It is done, or this is what was asked for",
            Answer::Lines(_) => "How far it is, line by line, and in the last line what comes of it",
        }
    }
}

/// JSON of a type.
pub(super) fn json<T: JsonSchema>() -> Answer {
    Answer::Json(schema::<T>)
}

/// Lines of a type.
pub(super) fn lines<T: JsonSchema>() -> Answer {
    Answer::Lines(schema::<T>)
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}
