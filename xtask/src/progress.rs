//! Saying what goes on: a moving line on a terminal, plain lines everywhere else.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often a long step says how far it is where nothing can move.
const PLAIN_EVERY: Duration = Duration::from_secs(60);

/// A display.
pub struct Progress {
    bar: Option<ProgressBar>,
    last: Mutex<Option<Instant>>,
}

impl Progress {
    /// A display on standard error.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, last: Mutex::new(None) }
    }

    /// A step began.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => {
                bar.println(format!("  {text}"));
                bar.set_message(text.to_owned());
            }
            None => eprintln!("  {text}"),
        }
    }

    /// A long step is this far, and needs so much longer if that is known.
    pub fn fraction(&self, what: &str, done: u64, total: u64, remaining: Option<Duration>) {
        let percent = format!("{what}: {} %", done * 100 / total.max(1));
        let text = match remaining {
            Some(remaining) => format!("{percent}, about {} min left", remaining.as_secs().div_ceil(60)),
            None => percent,
        };
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) {
                bar.set_length(total);
                if let Ok(style) = ProgressStyle::with_template("  {bar:30} {msg}") {
                    bar.set_style(style);
                }
            }
            bar.set_position(done);
            bar.set_message(text);
        } else if let Ok(mut last) = self.last.lock() {
            if last.is_none_or(|at| at.elapsed() >= PLAIN_EVERY) {
                *last = Some(Instant::now());
                eprintln!("  {text}");
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
