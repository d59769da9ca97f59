//! What a process tells on its standard error: a line for each event.
//!
//! Values in it come from strangers, a user's name or the words of a proxy, and would go on to the terminal of whoever reads
//! the log. So nothing in an event begins a line or moves a cursor.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;

/// From now on; `OBFLEET_LOG` says what is told, and without it only warnings if `quiet`.
pub fn on_stderr(quiet: bool) {
    let usual = if quiet { "warn" } else { "info" };
    let filter = EnvFilter::try_from_env("OBFLEET_LOG").unwrap_or_else(|_| usual.into());
    let coloured = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(coloured)
        .with_writer(move || Events {
            coloured,
            to: io::stderr(),
        })
        .init();
}

/// Takes an event at a time and makes a line of it.
struct Events<W> {
    /// Colours are escape sequences too. Those in values were written out before they got here.
    coloured: bool,
    to: W,
}

impl<W: Write> Write for Events<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        self.to.write_all(one_line(&text, self.coloured).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// An event with its control characters written out, all but the end of its line.
fn one_line(event: &str, coloured: bool) -> String {
    let mut line = String::with_capacity(event.len() + 1);
    for character in event.trim_end_matches('\n').chars() {
        match character {
            '\u{1b}' if coloured => line.push(character),
            control if control.is_control() => {
                // A String takes every text.
                let _ = write!(line, "{}", control.escape_default());
            }
            other => line.push(other),
        }
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let event = "INFO refused: a\n2026 INFO b\r\u{1b}[2J\u{9b}2J\u{7f} 汉字\t\"é\"\n";
        let line = r#"INFO refused: a\n2026 INFO b\r\u{1b}[2J\u{9b}2J\u{7f} 汉字\t"é""#;
        assert_eq!(one_line(event, false), format!("{line}\n"));
        let coloured = "\u{1b}[32mINFO\u{1b}[0m a\nb\n";
        assert_eq!(one_line(coloured, true), "\u{1b}[32mINFO\u{1b}[0m a\\nb\n");
    }
}
