//! README.md and the pages beside it: what they say to type works, and where they point there is something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use authio_actions::ctl;
use authio_actions_testkit::database::Database;
use clap::Parser;
use sqlx::Executor;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::ChildStdout;

use crate::support::programs;

/// Pages for people, but for those of libraries, whose own tests run their commands.
const PAGES: [&str; 5] = ["README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "SECURITY.md", "ops/runbook.md"];
/// How long a command may take until it shows what stands below it.
const PATIENCE: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_millis(200);
/// A line that no command prints.
const END: &str = "--- readme: status";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// The part of a page under a heading, up to the next one of any level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no heading {heading:?}"));
    rest.split("\n#").next().unwrap()
}

/// The fenced blocks of one kind.
fn blocks<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    page.split(&format!("\n```{kind}\n")).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

/// Something to type, and what it shows then: lines in order, in which `…` is anything.
#[derive(Debug)]
struct Typed {
    text: String,
    shows: Vec<String>,
}

fn typed(block: &str) -> Vec<Typed> {
    let mut all: Vec<Typed> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), line.strip_prefix("> "), all.last_mut()) {
            (Some(text), ..) => all.push(Typed { text: text.to_owned(), shows: Vec::new() }),
            (None, Some(more), Some(last)) => last.text.extend(["\n", more]),
            (None, None, Some(last)) if last.text.ends_with('\\') => last.text.extend(["\n", line]),
            (None, None, Some(last)) => last.shows.push(line.to_owned()),
            (None, _, None) => panic!("output without a command: {line}"),
        }
    }
    all
}

/// Whether the lines are there, in their order.
fn is_shown(wanted: &[String], output: &str) -> bool {
    let mut lines = output.lines();
    wanted.iter().all(|wanted| {
        lines.any(|line| {
            let squeezed = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let mut rest = squeezed.as_str();
            wanted.split('…').map(str::trim).all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
        })
    })
}

/// A shell that somebody types into.
struct Shell {
    commands: tokio::fs::File,
    output: Lines<BufReader<ChildStdout>>,
    folder: PathBuf,
    process: tokio::process::Child,
}

impl Shell {
    /// Starts it within what a command such as `ops/with-fleet` gives it, if any.
    async fn start(within: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("authio-actions-readme-{}", uuid::Uuid::new_v4().simple()));
        std::fs::create_dir(&folder).unwrap();
        let fifo = folder.join("commands");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap());
        let mut process = tokio::process::Command::new("bash");
        process.args(["-c", &format!("exec 2>&1; exec {within} bash {}", fifo.display())]);
        // What cargo told this test is not for a cargo that is typed.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG") || name.starts_with("CARGO_MANIFEST")) {
            process.env_remove(name);
        }
        process.current_dir(root()).env("PATH", path).env("TMPDIR", &folder).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = process.spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap()).lines();
        let commands = tokio::fs::OpenOptions::new().write(true).open(&fifo).await.unwrap();
        let mut this = Self { commands, output, folder, process };
        // The programs were built before the tests began.
        this.run("cargo() { [ \"$1\" = build ] || command cargo \"$@\"; }; export -f cargo").await;
        this
    }

    /// Types a command; its output and status.
    async fn run(&mut self, text: &str) -> (String, String) {
        self.commands.write_all(format!("{text}\necho \"{END} $?\"\n").as_bytes()).await.unwrap();
        self.commands.flush().await.unwrap();
        let mut output = String::new();
        let reading = async {
            while let Some(line) = self.output.next_line().await.unwrap() {
                if let Some((before, status)) = line.split_once(END) {
                    output.push_str(before);
                    return status.trim().to_owned();
                }
                output.push_str(&line);
                output.push('\n');
            }
            "the shell ended".to_owned()
        };
        let status = tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| "it does not end".to_owned());
        (output, status)
    }

    /// Types what a block says, and again what does not show yet what it will.
    async fn follow(&mut self, block: Vec<Typed>) {
        let mut pause = tokio::time::interval(PAUSE);
        pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for Typed { text, shows } in block {
            let mut last = String::new();
            let asking = async {
                loop {
                    let (output, status) = self.run(&text).await;
                    if status == "0" && is_shown(&shows, &output) {
                        return;
                    }
                    // What shows nothing may not be typed twice.
                    assert!(!shows.is_empty(), "$ {text}\nstatus {status}\n{output}");
                    last = output;
                    pause.tick().await;
                }
            };
            let is_in_time = tokio::time::timeout(PATIENCE, asking).await.is_ok();
            assert!(is_in_time, "$ {text}\nnever shows {shows:#?}, but:\n{last}");
        }
    }
}

/// What a page that lies has started is ended all the same.
impl Drop for Shell {
    fn drop(&mut self) {
        if let Some(id) = self.process.id() {
            let _ = Command::new("pkill").args(["-P", &id.to_string()]).status();
        }
        for folder in std::fs::read_dir(&self.folder).into_iter().flatten().flatten().filter(|folder| folder.path().join("data").exists()) {
            let _ = Command::new(root().join("ops/postgres")).arg("remove").arg(folder.path()).status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Follows the only block under a heading, as somebody new would.
async fn follow(heading: &str) {
    let page = read("README.md");
    let blocks = blocks(section(&page, heading), "console");
    let [block] = blocks[..] else { panic!("{heading} has {} blocks", blocks.len()) };
    let mut typed = typed(block);
    // A command that ends with a shell is what the rest is typed into.
    let first = typed[0].text.split('#').next().unwrap().trim().to_owned();
    let within = first.strip_suffix(" bash");
    if within.is_some() {
        typed.remove(0);
    }
    Shell::start(within.unwrap_or_default()).await.follow(typed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_it_has_a_fleet_in_five_minutes() {
    follow("### You run it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_it_has_an_outcome_in_five_minutes() {
    follow("### Your auth-core asks it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_it_has_a_verdict_in_five_minutes() {
    follow("### Your endpoint answers it").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_it_has_run_a_test_in_five_minutes() {
    follow("### You change it").await;
}

/// Words of a line of a shell, as far as our pages use its grammar.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            ('#' | '>' | '|' | '&', None) if words.last().is_some_and(String::is_empty) => break,
            (c, None) if c.is_whitespace() => {
                if !words.last().unwrap().is_empty() {
                    words.push(String::new());
                }
            }
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_command_of_actionsctl_that_a_page_shows_is_one() {
    let mut seen = BTreeSet::new();
    for page in PAGES {
        let text = read(page);
        for typed in blocks(&text, "console").into_iter().flat_map(typed) {
            let line = typed.text.replace("\\\n", " ");
            let words = words(&line);
            let Some(at) = words.iter().position(|word| word.ends_with("actionsctl")) else { continue };
            // Variables may stand before it, and nothing else.
            if words[..at].iter().all(|word| word.contains('=')) {
                if let Err(error) = ctl::Arguments::try_parse_from(&words[at..]) {
                    // Where the page keeps it out of the process list.
                    if text.contains("AUTHIO_ACTION_SECRET=") && error.to_string().contains("provided:\n  --secret <SECRET>\n\n") {
                        continue;
                    }
                    let is_help = matches!(error.kind(), clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion);
                    assert!(is_help, "{page}: {line}\n{error}");
                }
                seen.insert(line);
            }
        }
    }
    assert!(seen.len() > 15, "{seen:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_statement_that_readme_shows_is_one_for_the_role_that_it_names() {
    let database = Database::create(&programs().join("actionsctl")).await;
    let page = read("README.md");
    let mut seen = 0;
    for (heading, role) in [
        ("## Use it from auth-core", "core"),
        ("## Set an action up", "admin"),
        ("## Try a change before it is trusted", "admin"),
        ("## Look inside", "ops"),
    ] {
        let login = database.login(role).await;
        let blocks = blocks(section(&page, heading), "sql");
        assert!(!blocks.is_empty(), "{heading}");
        for block in blocks {
            let bare: Vec<&str> = block.lines().map(|line| line.split("--").next().unwrap()).collect();
            for statement in bare.join("\n").split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
                if let Err(error) = login.describe(statement).await {
                    // A view for operators beside what an administrator does.
                    let is_for_operators = error.to_string().contains("permission denied for view");
                    let as_operator = database.login("ops").await.describe(statement).await;
                    assert!(is_for_operators && as_operator.is_ok(), "{heading}: {statement}\n{error}");
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}

/// As a heading is linked to.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    heading.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

#[test]
fn every_link_of_a_page_leads_somewhere() {
    let mut seen = 0;
    for page in PAGES {
        let text = read(page);
        let here = root().join(page);
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { here.clone() } else { here.parent().unwrap().join(file) };
            assert!(target.exists(), "{page} points to {link}");
            if !heading.is_empty() {
                let headings: Vec<String> =
                    std::fs::read_to_string(&target).unwrap().lines().filter(|line| line.starts_with('#')).map(anchor).collect();
                assert!(headings.iter().any(|known| known == heading), "{page} points to {link}; there is {headings:?}");
            }
            seen += 1;
        }
        // What stands between backquotes and looks like a file of ours is one.
        for name in text.split('`').skip(1).step_by(2).filter(|name| name.starts_with("ops/") && !name.contains([' ', '*', '{', '…'])) {
            assert!(root().join(name).exists(), "{page} names {name}");
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn the_output_below_a_command_is_found_in_its_order() {
    let wanted = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let output = "kind   host\nworker   vm:7   0.2.0\njanitor  vm:8  leads\n";
    assert!(is_shown(&wanted(&["worker … 0.2.0", "janitor … leads"]), output));
    for other in [&["janitor … leads", "worker …"][..], &["worker … leads"], &["worker vm:9"]] {
        assert!(!is_shown(&wanted(other), output), "{other:?}");
    }
    let typed = typed("$ one \\\n    more\n$ two <<E\n> in it\n> E\nshown\n");
    assert_eq!(typed.iter().map(|typed| typed.text.as_str()).collect::<Vec<_>>(), ["one \\\n    more", "two <<E\nin it\nE"]);
    assert_eq!((typed[0].shows.len(), &typed[1].shows[..]), (0, &["shown".to_owned()][..]));
}
