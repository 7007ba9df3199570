//! What the person at the terminal reads: 80 columns, colours only on a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const WIDTH: usize = 80;
const LABEL: usize = 16;

/// Prints steps with their time since the start.
pub struct Screen {
    started: Instant,
    colours: bool,
}

impl Screen {
    pub fn new() -> Self {
        let colours = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { started: Instant::now(), colours }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        // A reader that left early, such as head, ends nothing.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// A part of the story.
    pub fn chapter(&self, title: &str) {
        self.line("");
        self.line(&self.paint("1;36", title));
        self.line(&self.paint("36", &"─".repeat(title.chars().count())));
    }

    /// A sentence for people.
    pub fn say(&self, text: &str) {
        for line in wrap(text, WIDTH) {
            self.line(&line);
        }
    }

    /// A line to be copied, so it is never broken.
    pub fn copy(&self, text: &str) {
        self.line(&format!("  {text}"));
    }

    /// A step with the time since the start.
    pub fn step(&self, title: &str) {
        let at = format!("{:5.1} s", self.started.elapsed().as_secs_f64());
        self.line("");
        self.line(&format!("{}  {}", self.paint("2", &at), self.paint("1", title)));
    }

    /// A labelled fact; what is too long goes on in the next line.
    pub fn fact(&self, label: &str, text: &str) {
        let mut label = format!("{label:<LABEL$}");
        for line in text.lines().flat_map(|line| wrap(line, WIDTH - LABEL - 2)) {
            self.line(&format!("  {}{line}", self.paint("2", &label)));
            label = " ".repeat(LABEL);
        }
    }

    /// What auth-core does: green when the person passes, red when not.
    pub fn verdict(&self, allows: bool, text: &str) {
        let colour = if allows { "32" } else { "31" };
        let mark = if allows { "✓" } else { "✗" };
        let mut label = format!("{:<LABEL$}", "auth-core");
        for line in text.lines().flat_map(|line| wrap(line, WIDTH - LABEL - 4)) {
            let mark = if label.trim().is_empty() { " " } else { mark };
            self.line(&format!("  {}{}", self.paint("2", &label), self.paint(colour, &format!("{mark} {line}"))));
            label = " ".repeat(LABEL);
        }
    }

    /// How long the walk has taken.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Breaks at spaces, else after commas, and inside of words that are longer than a line; never
/// inside of a link, which people copy.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let indent: String = text.chars().take_while(|c| *c == ' ').collect();
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word = word.to_owned();
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        line.push_str(if line.is_empty() { &indent } else { " " });
        while !word.contains("://") && line.chars().count() + word.chars().count() > width {
            let room = width.saturating_sub(line.chars().count()).max(1);
            let comma = word.chars().take(room).collect::<Vec<_>>().iter().rposition(|c| *c == ',');
            let room = comma.map_or(room, |at| at + 1);
            line.extend(word.chars().take(room));
            lines.push(std::mem::take(&mut line));
            word = word.chars().skip(room).collect();
        }
        line.push_str(&word);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn no_line_is_longer_than_the_screen_and_nothing_is_lost() {
        let text = format!("  short {} words {}", "x".repeat(100), "y".repeat(10));
        let lines = wrap(&text, 40);
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:?}");
        let kept: String = lines.concat().split_whitespace().collect();
        assert_eq!(kept, text.split_whitespace().collect::<String>());
    }
}
