//! Projects spread over two clusters.

use authio_actions::client::{ClientError, Options, Spread};
use authio_actions::domain::{Status, Trigger};
use authio_actions_testkit::database::Database;
use authio_actions_testkit::endpoint::Reply;
use authio_actions_testkit::server::Server;
use authio_actions_testkit::stack::Stack;
use serde_json::json;

use crate::support::{answering, programs, repeat};

const MOMENT: Trigger = Trigger::PreRegister;

async fn served(stack: &Stack, project: &str) {
    stack.project(project).await;
    stack.action(project, MOMENT.as_str(), &stack.endpoint.url("/"), "timeout_ms => 5000").await;
}

fn spread(one: &Stack, two: &Stack) -> Spread {
    let databases = [("one", Options::new(&one.database.url("core"))), ("two", Options::new(&two.database.url("core")))];
    Spread::new(databases, |project| project.split('_').next().unwrap_or_default().to_owned()).unwrap()
}

async fn status(client: &Spread, project: &str) -> Result<Status, ClientError> {
    client.invoke(project, MOMENT, &json!({})).await.map(|answer| answer.outcome.status)
}

/// Asks until it is served: a database that has just come back takes a moment.
async fn served_again(client: &Spread, project: &str) {
    let asking = repeat(async || status(client, project).await.ok() == Some(Status::Ok));
    tokio::time::timeout(std::time::Duration::from_secs(20), asking).await.expect("served again");
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_on_two_clusters_are_served_by_their_own_and_one_that_is_away_costs_the_other_nothing() {
    let one = answering(Reply::json("{}")).await;
    let server = Server::start();
    let database = Database::create_on(server.url(), &programs().join("actionsctl")).await;
    let two = Stack::on(database, &programs(), |_| std::future::ready(Reply::json("{}"))).await;
    let _workers = [one.worker(&[]).await, two.worker(&[]).await];
    served(&one, "one_acme").await;
    served(&two, "two_acme").await;
    let client = spread(&one, &two);
    assert_eq!(status(&client, "one_acme").await.unwrap(), Status::Ok);
    assert_eq!(status(&client, "two_acme").await.unwrap(), Status::Ok);
    assert_eq!((one.endpoint.requests().len(), two.endpoint.requests().len()), (1, 1));
    let lost = status(&client, "three_acme").await.unwrap_err().to_string();
    assert_eq!(lost, r#"project "three_acme" is routed to the database "three"; known are: one, two"#);

    server.run("stop", "fast");
    let late = spread(&one, &two);
    for client in [&client, &late] {
        let refused = status(client, "two_acme").await;
        assert!(matches!(&refused, Err(ClientError::Store(error)) if error.is_unreachable()), "{refused:?}");
        assert_eq!(status(client, "one_acme").await.unwrap(), Status::Ok);
    }
    server.run("restart", "fast");
    served_again(&client, "two_acme").await;
    served_again(&late, "two_acme").await;
}
