//! (b) The fleet through the Rust client.

use authio_actions::client::{Client, Options};
use authio_actions::domain::{Status, Trigger};
use serde_json::value::RawValue;

use super::EVENT;
use crate::load::Way;
use crate::stand::PROJECT;

pub struct Fleet {
    client: Client,
    project: String,
    event: Box<RawValue>,
}

impl Fleet {
    pub async fn connect(url: &str) -> Self {
        Self::of(Client::connect(&Options::new(url)).await.expect("auth-core's client"), PROJECT)
    }

    pub fn of(client: Client, project: &str) -> Self {
        Self { client, project: project.to_owned(), event: RawValue::from_string(EVENT.to_owned()).expect("JSON") }
    }
}

impl Way for Fleet {
    async fn call(&self) -> Result<(), String> {
        let answer = self.client.invoke(&self.project, Trigger::PreAuthenticate, &self.event).await.map_err(|error| error.to_string())?;
        match answer.outcome.status {
            Status::Ok => Ok(()),
            status => Err(format!("{status}: {:?}", answer.outcome.reason)),
        }
    }
}
