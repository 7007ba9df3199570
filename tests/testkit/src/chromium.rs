//! A real browser: Chromium, driven by WebDriver, as a person would use it.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use fantoccini::elements::Element;
use fantoccini::error::{CmdError, ErrorStatus};
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use http::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// A driver, which ends with its browsers when it is dropped.
pub struct Chromium {
    _driver: Child,
    address: String,
}

/// A browser of one person.
pub struct Window {
    client: Client,
    base: String,
}

/// A command of Chromium's own.
#[derive(Debug)]
struct DevTools(&'static str, Value);

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"cmd": self.0, "params": self.1}).to_string()))
    }
}

/// What the browser itself complained of since it was asked last.
#[derive(Debug)]
struct Complaints;

impl WebDriverCompatibleCommand for Complaints {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({"type": "browser"}).to_string()))
    }
}

impl Chromium {
    /// None where Chromium or its driver is not installed.
    pub async fn start() -> Option<Self> {
        ["/usr/bin/chromium", "/usr/bin/chromedriver"].iter().all(|path| Path::new(path).exists()).then_some(())?;
        let mut driver = Command::new("/usr/bin/chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the driver starts");
        let mut lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        while let Some(line) = lines.next_line().await.expect("readable") {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                let port = port.trim_end_matches('.').to_owned();
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Some(Self { _driver: driver, address: format!("http://127.0.0.1:{port}") });
            }
        }
        panic!("the driver ended at once");
    }

    /// A browser of its own, without anybody's cookies, for the site at `host:port`.
    pub async fn window(&self, site: &str, has_javascript: bool) -> Window {
        let mut options = json!({
            "binary": "/usr/bin/chromium",
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb"],
        });
        if !has_javascript {
            options["prefs"] = json!({"profile.managed_default_content_settings.javascript": 2});
        }
        let mut capabilities = Capabilities::new();
        capabilities.insert("goog:chromeOptions".to_owned(), options);
        capabilities.insert("goog:loggingPrefs".to_owned(), json!({"browser": "ALL"}));
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&self.address)
            .await
            .expect("a browser starts");
        Window { client, base: format!("http://{site}") }
    }
}

impl Window {
    /// Opens a page by its path.
    pub async fn open(&self, path: &str) {
        self.client.goto(&format!("{}{path}", self.base)).await.expect("a page");
    }

    /// The path of the page that is shown, with its query.
    pub async fn path(&self) -> String {
        let url = self.client.current_url().await.expect("an address");
        url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
    }

    /// Presses what is named so: a button, a link, or what unfolds.
    pub async fn press(&self, name: &str) {
        let named =
            format!("(//button[normalize-space()='{name}'] | //a[normalize-space()='{name}'] | //summary[normalize-space()='{name}'])[1]");
        loop {
            match self.find(&named).await.click().await {
                Ok(()) => return,
                // A live list was shown anew meanwhile.
                Err(CmdError::Standard(error)) if error.error == ErrorStatus::StaleElementReference => {}
                Err(error) => panic!("{name}: {error}"),
            }
        }
    }

    /// Writes into the field with this label, or chooses there.
    pub async fn fill(&self, label: &str, value: &str) {
        let named = format!(
            "(//label[starts-with(normalize-space(),'{label}')]//input | //label[starts-with(normalize-space(),'{label}')]//select \
             | //label[starts-with(normalize-space(),'{label}')]//textarea)[1]"
        );
        let field = self.find(&named).await;
        if field.tag_name().await.expect("a tag") == "select" {
            field.select_by_value(value).await.expect("an option");
        } else {
            field.clear().await.expect("a field that can be written");
            field.send_keys(value).await.expect("keys");
        }
    }

    /// Waits until the page shows a text.
    pub async fn sees(&self, text: &str) {
        self.find(&format!("//*[text()[contains(.,'{text}')]]")).await;
    }

    /// Waits for an element by XPath.
    pub async fn find(&self, xpath: &str) -> Element {
        let found = self.client.wait().at_most(std::time::Duration::from_secs(10)).for_element(Locator::XPath(xpath)).await;
        match found {
            Ok(element) => element,
            Err(error) => panic!("{xpath} in {}: {error}\n{}", self.path().await, self.text().await),
        }
    }

    /// Presses keys, wherever the focus is.
    pub async fn keys(&self, keys: &str) {
        self.client.active_element().await.expect("a focus").send_keys(keys).await.expect("keys");
    }

    /// The text of what has the focus.
    pub async fn focused(&self) -> String {
        self.client.active_element().await.expect("a focus").text().await.expect("a text")
    }

    /// All that the page says.
    pub async fn text(&self) -> String {
        match self.client.find(Locator::Css("body")).await {
            Ok(body) => body.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }

    /// As wide as a telephone, or a screen.
    pub async fn width(&self, width: u32) {
        let params = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", params).await;
    }

    /// `screen` or `print`, light or dark.
    pub async fn media(&self, media: &str, is_dark: bool) {
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        self.devtools("Emulation.setEmulatedMedia", json!({"media": media, "features": features})).await;
    }

    /// How many pixels of the page stand beside the screen.
    pub async fn overhang(&self) -> i64 {
        let script = "return document.documentElement.scrollWidth - window.innerWidth";
        self.client.execute(script, vec![]).await.expect("a number").as_i64().expect("a number")
    }

    /// What axe finds on the page, each with its place; `source` is axe itself.
    pub async fn violations(&self, source: &str) -> Vec<String> {
        self.client.execute(source, vec![]).await.expect("axe runs");
        let script = "const done = arguments[arguments.length - 1];
            axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})
              .then(r => done(r.violations.flatMap(v => v.nodes.map(n => v.id + ': ' + n.html.slice(0, 200)))), e => done([String(e)]))";
        let found = self.client.execute_async(script, vec![]).await.expect("axe answers");
        serde_json::from_value(found).expect("a list")
    }

    /// What the browser complained of, such as a policy that was broken.
    pub async fn complaints(&self) -> Vec<String> {
        let said = self.client.issue_cmd(Complaints).await.expect("a log");
        said.as_array().into_iter().flatten().map(|line| line["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A picture of the whole page, as a file.
    pub async fn picture(&self, file: &Path) -> PathBuf {
        let params = json!({"captureBeyondViewport": true, "format": "png"});
        let answer = self.devtools("Page.captureScreenshot", params).await;
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, answer["data"].as_str().unwrap_or_default());
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("a directory");
        std::fs::write(file, bytes.expect("a picture")).expect("a file");
        file.to_owned()
    }

    /// Ends the browser.
    pub async fn close(self) {
        match self.client.close().await {
            Ok(()) => {}
            Err(CmdError::Standard(error)) if error.error == ErrorStatus::InvalidSessionId => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn devtools(&self, command: &'static str, params: Value) -> Value {
        self.client.issue_cmd(DevTools(command, params)).await.unwrap_or_else(|error| panic!("{command}: {error}"))
    }
}
