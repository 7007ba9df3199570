//! OpenAPI 3.1: the six triggers as webhooks, for whoever writes an endpoint.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Event, Verdict};
use crate::domain::{Mode, Trigger};

pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    generator.subschema_for::<Event>();
    generator.subschema_for::<Verdict>();
    let webhooks: Map<String, Value> =
        Trigger::ALL.iter().map(|trigger| (trigger.as_str().to_owned(), json!({"post": operation(*trigger)}))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Authio Actions",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "What Authio asks an action's endpoint, and what it answers.",
            "description": "Your HTTPS endpoint is called while a person waits. Check the signature over the raw body before \
                anything else, and answer within the action's timeout.",
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "webhooks": webhooks,
        "components": {
            "schemas": generator.take_definitions(true),
            "parameters": parameters(),
            "headers": {"ResponseSignature": {
                "description": "As Authio-Signature, over the raw body of the answer; needed where the action requires it.",
                "schema": {"type": "string", "pattern": SIGNATURE},
            }},
            "securitySchemes": {"signature": {
                "type": "apiKey", "in": "header", "name": "Authio-Signature",
                "description": "t=<Unix seconds>,v1=<hex of HMAC-SHA256 with the whole secret as key over t, a dot and the raw body>. \
                    During a rotation there are two v1; any that matches is enough. Refuse a t that is more than 300 s away.",
            }},
        },
        "security": [{"signature": []}],
    })
}

const SIGNATURE: &str = "^t=[0-9]+(,v1=[0-9a-f]{64})+$";

fn operation(trigger: Trigger) -> Value {
    let effect = match (trigger.can_deny(), trigger.can_override_token()) {
        (true, true) => "It may allow, deny, and change the token that is about to be signed.",
        (true, false) => "It may allow or deny.",
        (false, _) => "It is told, and decides nothing.",
    };
    let parameters: Vec<Value> = parameters().keys().map(|name| json!({"$ref": format!("#/components/parameters/{name}")})).collect();
    json!({
        "operationId": trigger.as_str(),
        "summary": format!("{trigger}: {effect}"),
        "parameters": parameters,
        "requestBody": {
            "required": true,
            "content": {"application/json": {"schema": {
                "allOf": [{"$ref": "#/components/schemas/Event"}, {"properties": {"trigger": {"const": trigger.as_str()}}}],
            }}},
        },
        "responses": {
            "200": {
                "description": "A verdict. An empty body allows.",
                "headers": {"Authio-Response-Signature": {"$ref": "#/components/headers/ResponseSignature"}},
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Verdict"}}},
            },
            "204": {"description": "Allows."},
            "default": {"description": "A failure: the action's fail mode decides, and it counts for the kill-switch."},
        },
    })
}

fn parameters() -> Map<String, Value> {
    let parameter = |name: &str, required: bool, description: &str, schema: Value| {
        let key: String = name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]).collect();
        (key, json!({"name": name, "in": "header", "required": required, "description": description, "schema": schema}))
    };
    let string = json!({"type": "string"});
    Map::from_iter([
        parameter("Authio-Action-Id", true, "The action that is asked.", string.clone()),
        parameter("Authio-Trigger", true, "The trigger, as in the body.", json!({"enum": Trigger::ALL})),
        parameter("Authio-Event-Id", true, "The event, as in the body.", string.clone()),
        parameter(
            "Authio-Mode",
            false,
            "shadow or canary for a candidate, replay for a recorded event. Only a canary's answer decides anything.",
            json!({"enum": Mode::ALL}),
        ),
        parameter("traceparent", false, "W3C trace context, where auth-core gave one.", string),
    ])
}
