//! Attempts' logs: lines go through one writer, so that actions never wait for the disk and a failing log never fails a
//! step. The writer gathers lines for a moment, so that the log of many steps costs one transaction. The format is OCP's: a
//! header per attempt, then its lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{Local, TimeZone as _};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep;

use super::clock::WallClock;
use crate::state::{Subtask, TaskId};
use crate::store::{LogChunk, Store};

/// Most bytes of log one attempt may write.
const ATTEMPT_LIMIT: usize = 10 * 1024 * 1024;

/// Most bytes of one chunk.
const CHUNK_LIMIT: usize = 64 * 1024;

/// Most chunks written in one transaction.
const BATCH: usize = 256;

/// How long lines are gathered, unless somebody wants to see them.
const GATHERING: Duration = Duration::from_millis(20);

enum Message {
    Chunk(LogChunk),
    Flush(oneshot::Sender<()>),
}

/// The way to the writer.
pub(super) struct LogWriter {
    messages: mpsc::UnboundedSender<Message>,
    /// Ends the gathering.
    hurry: Arc<Notify>,
    clock: WallClock,
}

impl LogWriter {
    /// Starts the writer; it ends when the engine and every attempt are gone.
    pub fn start<C: 'static>(store: Arc<dyn Store<C>>, clock: WallClock) -> Self {
        let (messages, received) = mpsc::unbounded_channel();
        let hurry = Arc::new(Notify::new());
        tokio::spawn(write(store, received, Arc::clone(&hurry)));
        Self { messages, hurry, clock }
    }

    /// Waits until everything logged so far is written.
    pub async fn flush(&self) {
        let (written, wait) = oneshot::channel();
        if self.messages.send(Message::Flush(written)).is_ok() {
            self.hurry.notify_one();
            // The writer going away answers too.
            drop(wait.await);
        }
    }

    /// The log of one attempt, as its row stands after the claim.
    pub fn attempt(&self, task: TaskId, row: &Subtask, epoch: i64) -> AttemptLog {
        let template = LogChunk {
            task,
            subtask: row.id,
            epoch,
            operation: row.operation,
            run_time: row.run_time,
            seq: 0,
            at: 0,
            text: String::new(),
        };
        AttemptLog {
            template,
            messages: self.messages.clone(),
            clock: self.clock.clone(),
            next_seq: AtomicI64::new(0),
            written: AtomicUsize::new(0),
        }
    }
}

async fn write<C: 'static>(
    store: Arc<dyn Store<C>>,
    mut received: mpsc::UnboundedReceiver<Message>,
    hurry: Arc<Notify>,
) {
    while let Some(first) = received.recv().await {
        tokio::select! {
            () = hurry.notified() => {}
            () = sleep(GATHERING) => {}
        }
        let mut chunks = Vec::new();
        let mut waiting = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Chunk(chunk) => chunks.push(chunk),
                Message::Flush(written) => waiting.push(written),
            }
            next = received.try_recv().ok();
        }
        for chunks in chunks.chunks(BATCH) {
            if let Err(error) = store.append_logs(chunks).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "attempt logs were lost");
            }
        }
        for written in waiting {
            // Whoever asked may have gone.
            let _: Result<(), ()> = written.send(());
        }
    }
}

/// The log of one attempt.
pub(super) struct AttemptLog {
    template: LogChunk,
    messages: mpsc::UnboundedSender<Message>,
    clock: WallClock,
    next_seq: AtomicI64,
    written: AtomicUsize,
}

impl AttemptLog {
    /// OCP's line at the head of an attempt.
    pub fn header(&self) {
        let now = self.clock.now_ms();
        let time = Local.timestamp_millis_opt(now).single();
        let time = time
            .map(|time| time.format("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string())
            .unwrap_or_default();
        self.send(
            now,
            format!("############{{{}}}{{{time}}}############", self.template.operation),
        );
    }

    /// Adds a text of one or more lines; past the limit only a note that there was more.
    pub fn line(&self, text: &str) {
        let before = self.written.fetch_add(text.len(), Ordering::Relaxed);
        if before > ATTEMPT_LIMIT {
            return;
        }
        if before + text.len() > ATTEMPT_LIMIT {
            self.written.fetch_add(1, Ordering::Relaxed);
            self.send(
                self.clock.now_ms(),
                "… the attempt's log ends here: it has reached its limit".to_owned(),
            );
            return;
        }
        for piece in pieces(text.strip_suffix('\n').unwrap_or(text)) {
            self.send(self.clock.now_ms(), piece.to_owned());
        }
    }

    fn send(&self, at: i64, text: String) {
        let seq = self.next_seq.fetch_add(1, Ordering::Relaxed);
        let chunk = LogChunk {
            seq,
            at,
            text,
            ..self.template.clone()
        };
        // The writer outlives every attempt unless the runtime is going down.
        drop(self.messages.send(Message::Chunk(chunk)));
    }
}

/// Splits a long text at line ends, or within a line between characters, into pieces that fit a chunk.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest.take()?;
        if text.len() <= CHUNK_LIMIT {
            return Some(text);
        }
        let limit = (0..=CHUNK_LIMIT)
            .rev()
            .find(|&at| text.is_char_boundary(at))
            .unwrap_or(0);
        match text[..limit].rfind('\n') {
            Some(end) => {
                rest = Some(&text[end + 1..]);
                Some(&text[..end])
            }
            None => {
                rest = Some(&text[limit..]);
                Some(&text[..limit])
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_lines_and_characters() {
        let lines = format!("{}\n{}", "a".repeat(CHUNK_LIMIT - 1), "b".repeat(10));
        assert_eq!(pieces(&lines).map(str::len).collect::<Vec<_>>(), [CHUNK_LIMIT - 1, 10]);
        let chinese = "汉".repeat(CHUNK_LIMIT);
        let cut: Vec<_> = pieces(&chinese).collect();
        assert!(cut.iter().all(|piece| piece.len() <= CHUNK_LIMIT));
        assert_eq!(cut.concat(), chinese);
        assert_eq!(pieces("").collect::<Vec<_>>(), [""]);
    }

    #[test]
    fn no_character_is_cut_wherever_the_limit_falls() {
        for character in ['a', 'é', '汉', '😀'] {
            for before in 0..=character.len_utf8() {
                let text = "x".repeat(CHUNK_LIMIT - before) + &character.to_string().repeat(3);
                let cut: Vec<_> = pieces(&text).collect();
                assert_eq!(cut.concat(), text);
                let fits = before / character.len_utf8() * character.len_utf8();
                let first = CHUNK_LIMIT - before + fits.min(3 * character.len_utf8());
                assert_eq!(cut[0].len(), first, "{before} bytes before the limit a {character}");
            }
        }
    }
}
