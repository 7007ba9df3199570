//! JSON Schema and OpenAPI of everything that others send us or hear from us, made from Rust types.
//!
//! Called by `actionsctl schema`; what it prints is checked in under `ops/schemas`, and a fact holds both
//! together. `outcome` is the type itself that the fleet writes. An event passes through the fleet as auth-core
//! wrote it and a verdict is read leniently, so for these the types here say what is meant, and facts hold them
//! to what the fleet sends and to what it drops.

mod event;
mod notification;
mod openapi;
mod verdict;

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

pub use self::event::Event;
pub use self::notification::Notification;
pub use self::verdict::Verdict;
use crate::domain::Outcome;

/// A document that integrators get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Document {
    /// What an endpoint is asked: the body of the POST.
    Event,
    /// What an endpoint answers.
    Verdict,
    /// What auth-core must do, as `actions.result` and the notification have it.
    Outcome,
    /// The payload of a NOTIFY.
    Notification,
    /// OpenAPI 3.1 whose webhooks are the six triggers.
    Openapi,
}

impl Document {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Event, Self::Verdict, Self::Outcome, Self::Notification, Self::Openapi];

    /// Its name, as `actionsctl schema` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Verdict => "verdict",
            Self::Outcome => "outcome",
            Self::Notification => "notification",
            Self::Openapi => "openapi",
        }
    }

    /// The document: JSON Schema 2020-12, or OpenAPI 3.1.
    pub fn to_json(self) -> Value {
        let mut document = match self {
            Self::Event => document::<Event>(self, read()),
            Self::Verdict => document::<Verdict>(self, read()),
            Self::Outcome => document::<Outcome>(self, written()),
            Self::Notification => document::<Notification>(self, written()),
            Self::Openapi => openapi::document(),
        };
        // Whatever features of serde_json somebody else switched on.
        document.sort_all_objects();
        document
    }
}

/// Of what others write: what may be left out may be null, too.
fn read() -> SchemaSettings {
    SchemaSettings::draft2020_12()
}

/// Of what the fleet writes: what is not there is left out, and never null.
fn written() -> SchemaSettings {
    SchemaSettings::draft2020_12().for_serialize().with_transform(NeverNull)
}

fn document<T: JsonSchema>(which: Document, settings: SchemaSettings) -> Value {
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), json!(format!("urn:authio-actions:schema:{}", which.name())));
    schema.to_value()
}

#[derive(Debug, Clone)]
struct NeverNull;

impl Transform for NeverNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        let Some(object) = schema.as_object_mut() else { return };
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|kind| kind != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(kinds)) = object.get_mut("anyOf") {
            kinds.retain(|kind| *kind != json!({"type": "null"}));
        }
    }
}
