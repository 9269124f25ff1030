//! One partition: its messages, handed on in order, and the offset of what was accepted.
//!
//! What enters: the queue of a partition. What leaves: requests to an intake, a few at a time; offsets to be committed, each when all
//! before it were accepted. Promises: what is refused for now is tried again for as long as the partition is ours; what is refused for
//! good is found among its neighbours, which go on; at the end, attempts under way are awaited and none is begun. A partition holds
//! no more than its queue and a few requests. Absent on purpose: who owns which partition (`group`).

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesOrdered};
use rdkafka::{
    Message as _,
    consumer::{BaseConsumer, Consumer, base_consumer::PartitionQueue},
    message::Headers,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use super::{
    Settings,
    decoding::{Decoding, Message},
    group::{Counters, Group},
};
use crate::edge::{Intake, Metadata, Refusal, Request, now_unix_nano, transport::warnings::Throttle};

/// Requests of a partition that are under way at a time: the next hop's answer is not waited for before the next is sent.
const UNDER_WAY: usize = 4;
/// A request is no larger, unless a message is.
const REQUEST_BYTES: usize = 1024 * 1024;
/// Nor are more messages put together.
const REQUEST_MESSAGES: usize = 8192;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Bytes of a header that are kept.
const MAX_HEADER_BYTES: usize = 4096;

/// What handing on needs, shared by what is under way.
pub(super) struct Way {
    pub topic: String,
    pub partition: i32,
    pub settings: Arc<Settings>,
    pub decoding: Decoding,
    pub intake: Arc<dyn Intake>,
    pub counters: Arc<Counters>,
    pub skipped: Arc<Throttle>,
}

/// A partition that is ours.
pub(super) struct Lane {
    way: Arc<Way>,
    consumer: Weak<BaseConsumer<Group>>,
    queue: PartitionQueue<Group>,
    arrived: Arc<Notify>,
    /// Read, and of other metadata than what was put together before it.
    next: Option<Message>,
}

/// What came of messages.
struct Handed {
    /// The last offset up to which all were accepted or passed over.
    up_to: Option<i64>,
    /// Whether the end came before all were.
    is_cut: bool,
}

/// How far all was accepted. What is stored is committed, and what is committed never comes again: so nothing behind a cut is ever
/// stored, whatever was accepted of it.
#[derive(Default)]
struct Progress {
    is_cut: bool,
}

/// Why a request did not go on.
enum Stop {
    /// Nobody will ever take it.
    Never(String),
    /// The partition is not ours any more.
    End,
}

impl Lane {
    pub fn new(way: Way, consumer: Weak<BaseConsumer<Group>>, mut queue: PartitionQueue<Group>) -> Self {
        let arrived = Arc::new(Notify::new());
        let news = Arc::clone(&arrived);
        queue.set_nonempty_callback(move || news.notify_one());
        Self {
            way: Arc::new(way),
            consumer,
            queue,
            arrived,
            next: None,
        }
    }

    /// Hands on until `end`.
    pub async fn run(mut self, mut end: watch::Receiver<bool>) {
        let mut under_way = FuturesOrdered::new();
        let mut progress = Progress::default();
        let of_attempts = end.clone();
        loop {
            let has_room = under_way.len() < UNDER_WAY;
            tokio::select! {
                biased;
                _ = end.wait_for(|is_over| *is_over) => break,
                Some(handed) = under_way.next() => self.store(progress.after(&handed)),
                messages = self.gather(), if has_room => {
                    under_way.push_back(hand_on(Arc::clone(&self.way), messages, of_attempts.clone()));
                }
            }
        }
        while let Some(handed) = under_way.next().await {
            self.store(progress.after(&handed));
        }
    }

    /// What has arrived, as soon as there is something; nothing is lost when it is not awaited to its end.
    async fn gather(&mut self) -> Vec<Message> {
        loop {
            let messages = self.take();
            if !messages.is_empty() {
                return messages;
            }
            self.arrived.notified().await;
        }
    }

    /// What has arrived and goes together.
    fn take(&mut self) -> Vec<Message> {
        let mut messages: Vec<Message> = self.next.take().into_iter().collect();
        let mut bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
        while bytes < REQUEST_BYTES && messages.len() < REQUEST_MESSAGES {
            let Some(polled) = self.queue.poll(Duration::ZERO) else {
                break;
            };
            let message = match polled {
                Ok(message) => self.way.message(&message),
                Err(problem) => {
                    let Way { topic, partition, .. } = &*self.way;
                    tracing::warn!(topic, partition, "{problem}");
                    continue;
                }
            };
            self.way.counters.messages.fetch_add(1, Ordering::Relaxed);
            bytes += message.payload.len();
            let goes_together = messages
                .first()
                .is_none_or(|first: &Message| first.metadata == message.metadata && bytes <= REQUEST_BYTES);
            if !goes_together {
                self.next = Some(message);
                break;
            }
            messages.push(message);
        }
        messages
    }

    /// Keeps how far we are, to be committed.
    fn store(&self, up_to: Option<i64>) {
        let Way { topic, partition, .. } = &*self.way;
        if let (Some(offset), Some(consumer)) = (up_to, self.consumer.upgrade()) {
            // It fails where the partition has been lost meanwhile: then another member does these again.
            if let Err(problem) = consumer.store_offset(topic, *partition, offset) {
                tracing::debug!(topic, partition, offset, "not stored: {problem}");
            }
        }
    }
}

impl Progress {
    /// The offset to be stored after what was handed on, in order.
    fn after(&mut self, handed: &Handed) -> Option<i64> {
        let up_to = handed.up_to.filter(|_| !self.is_cut);
        self.is_cut |= handed.is_cut;
        up_to
    }
}

/// Hands on messages, in halves where some cannot be, until all are accepted, or the end.
async fn hand_on(way: Arc<Way>, messages: Vec<Message>, mut end: watch::Receiver<bool>) -> Handed {
    let mut up_to = None;
    let mut parts = vec![messages.as_slice()];
    while let Some(part) = parts.pop() {
        match way.attempt(part, &mut end).await {
            Ok(()) => {}
            Err(Stop::Never(_)) if part.len() > 1 => {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([second, first]);
                continue;
            }
            Err(Stop::Never(why)) => {
                way.skip(part, &why);
                if !way.settings.message_marking.on_permanent_error {
                    let _ = end.wait_for(|is_over| *is_over).await;
                    return Handed { up_to, is_cut: true };
                }
            }
            Err(Stop::End) => return Handed { up_to, is_cut: true },
        }
        up_to = part.last().map(|message| message.offset);
    }
    Handed { up_to, is_cut: false }
}

impl Way {
    /// Tries until it is accepted, refused for good, or over.
    async fn attempt(&self, messages: &[Message], end: &mut watch::Receiver<bool>) -> Result<(), Stop> {
        let body = self.decoding.request(messages).map_err(Stop::Never)?;
        let metadata = messages.first().map(|message| message.metadata.clone());
        let mut wait = self.settings.error_backoff.initial_interval;
        loop {
            let request = Request {
                signal: self.decoding.signal,
                body: body.clone(),
                metadata: metadata.clone().unwrap_or_default(),
                deadline: Instant::now() + ATTEMPT,
            };
            let accepted = match self.intake.ready() {
                Ok(()) => self.intake.accept(request).await,
                Err(refusal) => Err(refusal),
            };
            let asked = match accepted {
                Ok(_) => return Ok(()),
                Err(Refusal::Unavailable { retry_after, .. }) => retry_after.unwrap_or_default(),
                Err(refusal) => return Err(Stop::Never(refusal.to_string())),
            };
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
            let over = end.wait_for(|is_over| *is_over);
            if timeout(wait.max(asked), over).await.is_ok() {
                return Err(Stop::End);
            }
            wait = (wait * 2).min(self.settings.error_backoff.max_interval);
        }
    }

    /// Says which message is passed over, or holds up its partition.
    fn skip(&self, messages: &[Message], why: &str) {
        let Some(message) = messages.first() else { return };
        let goes_on = self.settings.message_marking.on_permanent_error;
        self.counters.unread_messages.fetch_add(1, Ordering::Relaxed);
        if let Some(left_out) = self.skipped.admit() {
            tracing::error!(
                topic = self.topic,
                partition = self.partition,
                offset = message.offset,
                left_out,
                "{why}; {}",
                if goes_on {
                    "the message is passed over; it stays in Kafka"
                } else {
                    "the partition stands still: remove the message's cause, or set `message_marking: {on_permanent_error: true}`"
                }
            );
        }
    }

    /// A message, out of librdkafka's memory.
    fn message(&self, message: &rdkafka::message::BorrowedMessage<'_>) -> Message {
        let written = message
            .timestamp()
            .to_millis()
            .and_then(|millis| u64::try_from(millis).ok());
        let (attributes, metadata) = self.headers(message);
        Message {
            offset: message.offset(),
            time_unix_nano: written.map_or_else(now_unix_nano, |millis| millis.saturating_mul(1_000_000)),
            payload: message.payload().map(<[u8]>::to_vec).unwrap_or_default().into(),
            attributes,
            metadata,
        }
    }

    /// What a message's headers become: attributes, and metadata.
    fn headers(&self, message: &rdkafka::message::BorrowedMessage<'_>) -> (Vec<(String, String)>, Metadata) {
        let Settings {
            header_extraction,
            include_metadata,
            ..
        } = &*self.settings;
        let Some(headers) = message
            .headers()
            .filter(|_| *include_metadata || header_extraction.extract_headers)
        else {
            return Default::default();
        };
        let headers = headers.iter().filter_map(|header| Some((header.key, header.value?)));
        let headers: Vec<(&str, &[u8])> = headers.filter(|(_, value)| value.len() <= MAX_HEADER_BYTES).collect();
        let mut metadata = Metadata::default();
        if *include_metadata {
            metadata = Metadata::printable(headers.iter().copied());
        }
        (header_extraction.attributes(&headers), metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end may be seen by a request before it is seen by its partition: what was accepted behind that request is then still to come.
    #[test]
    fn nothing_behind_a_cut_is_stored() {
        let mut progress = Progress::default();
        let mut after = |up_to, is_cut| progress.after(&Handed { up_to, is_cut });
        assert_eq!(after(Some(1), false), Some(1));
        assert_eq!(
            after(Some(4), true),
            Some(4),
            "what came before the message that stands"
        );
        assert_eq!(after(Some(9), false), None);
        assert_eq!(after(None, true), None);
        assert_eq!(after(Some(12), false), None);
    }
}
