//! How long the server needs for each page of the console, by what the page itself says.

use std::time::Instant;

use authio_actions_testkit::browser::Browser;

use crate::findings::Findings;
use crate::report::line;
use crate::stand::Stand;

/// Each page three times, for a busy action and an idle one.
pub async fn measure(stand: &Stand, actions: [(&str, &str); 2], findings: &mut Findings) {
    let started = Instant::now();
    let (mut console, address) = stand.console().await;
    let link = console.said("Open the console").await;
    line(&format!("the console serves after {:.0} ms", started.elapsed().as_secs_f64() * 1000.0));
    let mut browser = Browser::new(&address);
    browser.get(&format!("/enter/{}", link.rsplit_once("/enter/").map_or("", |(_, token)| token.trim()))).await;
    let mut pages: Vec<String> =
        ["/", "/?window=7d", "/projects", "/invocations", "/invocations?status=timeout", "/audit", "/try", "/search?q=bench"]
            .map(str::to_owned)
            .to_vec();
    for (project, action) in actions {
        let invocation: Option<String> = sqlx::query_scalar("select invocation_id from actions.recent($1, 1)")
            .bind(action)
            .fetch_optional(&stand.owner)
            .await
            .expect("an invocation");
        pages.extend([
            format!("/projects/{project}"),
            format!("/projects/{project}?status=timeout&since=7d"),
            format!("/actions/{action}"),
            format!("/actions/{action}?status=timeout&override=true"),
            format!("/actions/{action}/edit"),
            format!("/audit?project={project}&action={action}"),
        ]);
        pages.extend(invocation.map(|invocation| format!("/invocations/{invocation}")));
    }
    let mut longest = 0.0_f64;
    for page in pages {
        let mut of_page = 0.0_f64;
        for _ in 0..3 {
            let seen = browser.get(&page).await;
            assert_eq!(seen.status, 200, "{page}: {}", seen.body);
            let took = seen.header("server-timing").rsplit_once('=').and_then(|(_, took)| took.parse().ok());
            of_page = of_page.max(took.expect("how long it took"));
        }
        line(&format!("{of_page:>18.1} ms {page}"));
        longest = longest.max(of_page);
    }
    findings.at_most("the longest page", longest, 100.0, "ms");
    stand.end(&mut [console]).await;
}
