//! The thread that owns a queue's database: everything that waits goes into one durable transaction.
//!
//! In: requests to keep, and what became of entries. Out: acknowledgements, each after the sync that made it true. Promises: a
//! delivery that could not be noted is remembered, so that this process does not send twice; an error of the disk is
//! survived by opening the file again, with back-off, and meanwhile everything is refused; a file that is corrupt is set
//! aside and a new one begun; a panic in the database is an error like others. Absent on purpose: sending.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use redb::Database;
use tokio::sync::oneshot;

use super::{
    Room, Shared,
    storage::Medium,
    tables::{self, Change, Contents, Fault, Head},
};

/// Bytes from which on a transaction takes in no more.
const MAX_BATCH_BYTES: usize = 64 << 20;
/// First and longest wait before the file is opened again.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What the writer is asked to do.
pub enum Order {
    /// Keep a value.
    Keep(Kept),
    /// Note what became of an entry.
    Settle(Settled),
    /// A reader doubts that the file can be used: open it anew, with a look at everything.
    Doubt(String),
}

/// A value to keep.
pub struct Kept {
    /// The room that was reserved for it.
    pub room: Room,
    /// The entry's value.
    pub value: Vec<u8>,
    /// Told once it is on disk, or that it is not; nobody listens when the caller has gone.
    pub answer: oneshot::Sender<Result<(), String>>,
}

/// What became of an entry, or of a part of it.
#[derive(Debug)]
pub struct Settled {
    /// The entry.
    pub number: u64,
    /// What is still to be delivered of it; `None`: nothing, it goes.
    pub rest: Option<(Head, Vec<u8>)>,
    /// What was refused for good.
    pub dead_letter: Option<Vec<u8>>,
}

/// See the module.
pub struct Writer {
    shared: Arc<Shared>,
    medium: Box<dyn Medium>,
    /// What is not noted yet, with the numbers of dead letters.
    unsettled: Vec<(Settled, u64)>,
    next: u64,
    wait: Duration,
    retry_at: Instant,
    /// Whether the last that was said is that it does not work.
    is_failing: bool,
    /// Whether the file may be corrupt.
    is_in_doubt: bool,
}

impl Writer {
    /// Opens the database and takes over what a former process left in it.
    ///
    /// # Errors
    /// What keeps the queue from ever working, like a file that is not ours to write. A full disk is no such thing.
    pub fn open(shared: Arc<Shared>, medium: Box<dyn Medium>) -> Result<Self, String> {
        let mut writer = Self {
            shared,
            medium,
            unsettled: Vec::new(),
            next: 1,
            wait: BACK_OFF.0,
            retry_at: Instant::now(),
            is_failing: false,
            is_in_doubt: false,
        };
        match guarded(Fault::Corrupt, || writer.connect(false)) {
            Ok((database, contents)) => writer.begin(database, &contents),
            Err(Fault::Corrupt(why)) => writer.replace(&why)?,
            // With another error of the system nothing is known of the backlog, so nothing can be promised.
            Err(Fault::Unavailable(why)) => return Err(why),
        }
        Ok(writer)
    }

    fn connect(&self, thorough: bool) -> Result<(Database, Contents), Fault> {
        let database = self.medium.open(thorough)?;
        let contents = tables::load(&database)?;
        Ok((database, contents))
    }

    fn begin(&mut self, database: Database, contents: &Contents) {
        let mut index = self.shared.index();
        for (number, head) in &contents.heads {
            index.restore(*number, *head);
        }
        index.restore_dead_letters(contents.dead_letters, contents.dead_letter_bytes);
        drop(index);
        self.next = self.next.max(contents.next);
        *self.shared.place_of_database() = Some(database);
        self.shared.entered.notify_one();
    }

    /// Works until nobody is left to ask for anything.
    pub fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let is_down = self.shared.database().is_none();
            let first = if is_down {
                let wait = self.retry_at.saturating_duration_since(Instant::now());
                match orders.recv_timeout(wait) {
                    Ok(order) => Some(order),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match orders.recv() {
                    Ok(order) => Some(order),
                    Err(_) => break,
                }
            };
            let mut kept = Vec::new();
            let mut bytes = 0;
            let mut next = first;
            while let Some(order) = next {
                match order {
                    Order::Keep(value) => {
                        bytes += value.value.len();
                        kept.push(value);
                    }
                    Order::Settle(settled) => {
                        bytes += settled.rest.as_ref().map_or(0, |(_, value)| value.len());
                        let number = self.number();
                        self.unsettled.push((settled, number));
                    }
                    Order::Doubt(why) => {
                        self.is_in_doubt = true;
                        self.close(format!("the queue's file cannot be read: {why}"));
                        self.retry_at = Instant::now();
                    }
                }
                next = if bytes < MAX_BATCH_BYTES {
                    orders.try_recv().ok()
                } else {
                    None
                };
            }
            self.work(kept);
        }
        if !self.unsettled.is_empty() {
            // Once more, so that the next process does not deliver it again.
            self.retry_at = Instant::now();
            self.work(Vec::new());
        }
        // The end of the database is its own: it notes that it was closed in order.
        give_up(&self.shared);
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn work(&mut self, kept: Vec<Kept>) {
        if self.shared.database().is_none() && Instant::now() >= self.retry_at {
            self.reopen();
        }
        let shared = Arc::clone(&self.shared);
        let open = shared.database();
        let Some(database) = open.as_ref() else {
            let why = self.shared.index().trouble.clone().unwrap_or_default();
            for Kept { answer, .. } in kept {
                let _ = answer.send(Err(why.clone()));
            }
            return;
        };
        // Whose caller has gone sends again: what it sent is not kept twice.
        let kept: Vec<_> = kept
            .into_iter()
            .filter(|kept| !kept.answer.is_closed())
            .map(|kept| (self.number(), kept))
            .collect();
        if kept.is_empty() && self.unsettled.is_empty() {
            return;
        }
        let changes = changes(&self.unsettled).chain(
            kept.iter()
                .map(|(number, kept)| Change::Add(*number, kept.room.head, &kept.value)),
        );
        let outcome = guarded(Fault::Unavailable, || tables::apply(database, changes));
        drop(open);
        match outcome {
            Ok(()) => {
                self.unsettled.clear();
                self.works_again();
                for (number, Kept { room, answer, .. }) in kept {
                    room.enter(number);
                    let _ = answer.send(Ok(()));
                }
                self.shared.entered.notify_one();
            }
            Err(fault) => {
                let why = format!("the queue's file cannot be written: {fault}");
                match fault {
                    Fault::Corrupt(why) => self.corrupt(&why),
                    Fault::Unavailable(_) => self.close(why.clone()),
                }
                for (_, Kept { answer, .. }) in kept {
                    let _ = answer.send(Err(why.clone()));
                }
            }
        }
    }

    fn works_again(&mut self) {
        self.wait = BACK_OFF.0;
        if std::mem::take(&mut self.is_failing) {
            tracing::info!(exporter = self.shared.name, "the queue's file can be written again");
        }
    }

    /// Gives the database up for now.
    fn close(&mut self, why: String) {
        give_up(&self.shared);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::error!(
                exporter = self.shared.name,
                "{why}; callers are told to send again until it works"
            );
        }
        self.shared.index().trouble = Some(why);
        self.retry_at = Instant::now() + self.wait;
        self.wait = (self.wait * 2).min(BACK_OFF.1);
    }

    fn reopen(&mut self) {
        match guarded(Fault::Corrupt, || self.connect(self.is_in_doubt)) {
            Ok((database, contents)) => {
                // A transaction whose sync failed may be on the disk all the same; its callers were refused.
                let strangers: Vec<u64> = {
                    let index = self.shared.index();
                    let unsettled: BTreeSet<u64> = self.unsettled.iter().map(|(settled, _)| settled.number).collect();
                    let numbers = contents.heads.iter().map(|(number, _)| *number);
                    numbers
                        .filter(|number| !index.knows(*number) && !unsettled.contains(number))
                        .collect()
                };
                let changes = changes(&self.unsettled).chain(strangers.into_iter().map(Change::Remove));
                match guarded(Fault::Unavailable, || tables::apply(&database, changes)) {
                    Ok(()) => {
                        self.unsettled.clear();
                        self.is_in_doubt = false;
                        self.next = self.next.max(contents.next);
                        self.shared.index().trouble = None;
                        *self.shared.place_of_database() = Some(database);
                        self.shared.entered.notify_one();
                    }
                    Err(Fault::Corrupt(why)) => {
                        drop(database);
                        self.corrupt(&why);
                    }
                    Err(Fault::Unavailable(why)) => self.close(why),
                }
            }
            Err(Fault::Corrupt(why)) => self.corrupt(&why),
            Err(Fault::Unavailable(why)) => self.close(format!("the queue's file cannot be opened: {why}")),
        }
    }

    /// Sets the file aside and begins a new one.
    fn corrupt(&mut self, why: &str) {
        give_up(&self.shared);
        if let Err(problem) = self.replace(why) {
            self.close(format!(
                "the queue's file is corrupt, and a new one cannot be begun: {problem}"
            ));
        }
    }

    fn replace(&mut self, why: &str) -> Result<(), String> {
        let aside = self.medium.set_aside(why).map_err(|error| error.to_string())?;
        let entries = self.shared.index().forget_all();
        self.shared.counters.set_aside_files.fetch_add(1, Ordering::Relaxed);
        let aside = aside.map_or_else(String::new, |path| path.display().to_string());
        tracing::error!(
            exporter = self.shared.name,
            aside,
            entries,
            "the queue's file is corrupt and was set aside, a new one is begun: {why}"
        );
        // Of what was not noted only dead letters are of use to a new file.
        self.unsettled.retain(|(settled, _)| settled.dead_letter.is_some());
        let (database, contents) =
            guarded(Fault::Corrupt, || self.connect(false)).map_err(|fault| fault.to_string())?;
        self.shared.index().trouble = None;
        self.is_in_doubt = false;
        self.begin(database, &contents);
        self.shared.room.notify_waiters();
        Ok(())
    }
}

fn changes(unsettled: &[(Settled, u64)]) -> impl Iterator<Item = Change<'_>> {
    unsettled.iter().flat_map(|(settled, letter)| {
        let entry = match &settled.rest {
            Some((head, value)) => Change::Shorten(settled.number, *head, value),
            None => Change::Remove(settled.number),
        };
        let dead_letter = settled.dead_letter.as_deref();
        [Some(entry), dead_letter.map(|value| Change::Bury(*letter, value))]
            .into_iter()
            .flatten()
    })
}

/// Closes the database, if it can be: after an error it may panic once more.
fn give_up(shared: &Shared) {
    let database = shared.place_of_database().take();
    let _ = guarded(Fault::Unavailable, || {
        drop(database);
        Ok(())
    });
}

/// A panic in the database is an error. Where it can be tried again it is one of the disk: opening the file decides.
fn guarded<T>(fault: fn(String) -> Fault, work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        Err(fault(format!(
            "the database panicked: {}",
            said.unwrap_or("without a word")
        )))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
    use std::sync::mpsc;

    use super::{
        super::{
            Settings,
            entry::Entry,
            faulty::{Disk, Failure},
        },
        *,
    };
    use crate::edge::{Metadata, Signal};

    /// A writer that works when told, without a thread or a clock.
    struct Bench {
        shared: Arc<Shared>,
        writer: Writer,
    }

    fn entry(text: &str) -> Entry {
        Entry {
            signal: Signal::Logs,
            body: text.to_owned().into(),
            metadata: Metadata::default(),
            records: 1,
            enqueued_unix_nano: 0,
        }
    }

    impl Bench {
        fn start(disk: &Disk) -> Result<Self, String> {
            let (orders, _) = mpsc::channel();
            let shared = Arc::new(Shared::new("test", &Settings::default(), orders));
            let writer = Writer::open(Arc::clone(&shared), Box::new(disk.clone()))?;
            Ok(Self { shared, writer })
        }

        fn work(&mut self, kept: Vec<Kept>) {
            self.writer.retry_at = Instant::now();
            self.writer.work(kept);
        }

        fn keep(&mut self, text: &str) -> Result<(), String> {
            let entry = entry(text);
            let head = super::super::delivery::head(&entry);
            let reserved = self.shared.index().reserve(head);
            if let Err(no_room) = reserved {
                self.work(Vec::new());
                return Err(format!("{no_room:?}"));
            }
            let room = Room {
                shared: Arc::clone(&self.shared),
                head,
                is_used: false,
            };
            let (answer, mut answered) = oneshot::channel();
            let value = entry.encode();
            self.work(vec![Kept { room, value, answer }]);
            answered.try_recv().unwrap()
        }

        /// Takes the next entry and notes that it was delivered.
        fn deliver(&mut self) -> Option<String> {
            let number = self.shared.index().next()?;
            for _ in 0..8 {
                let read = self
                    .shared
                    .database()
                    .as_ref()
                    .map(|database| tables::entry(database, number));
                if let Some(Ok(value)) = read {
                    let entry = Entry::decode(&value.expect("an entry is missing")).expect("an entry has changed");
                    self.shared.index().remove(number);
                    let letter = self.writer.number();
                    let settled = Settled {
                        number,
                        rest: None,
                        dead_letter: None,
                    };
                    self.writer.unsettled.push((settled, letter));
                    self.work(Vec::new());
                    return Some(String::from_utf8(entry.body.to_vec()).unwrap());
                }
                self.work(Vec::new());
            }
            self.shared.index().put_back(number);
            None
        }

        fn everything(mut self) -> Vec<String> {
            std::iter::from_fn(|| self.deliver()).collect()
        }
    }

    impl Drop for Bench {
        fn drop(&mut self) {
            // As the thread does at its end.
            give_up(&self.shared);
        }
    }

    /// What happened to each text.
    #[derive(Debug, Default)]
    struct Told {
        kept: Vec<String>,
        refused: Vec<String>,
        delivered: Vec<String>,
    }

    fn live(bench: &mut Bench) -> Told {
        let mut told = Told::default();
        for step in 0..12 {
            let text = format!("{step} {}", "x".repeat(step * 300));
            match bench.keep(&text) {
                Ok(()) => told.kept.push(text),
                Err(_) => told.refused.push(text),
            }
            if step % 3 == 2 {
                told.delivered.extend(bench.deliver());
            }
        }
        told
    }

    /// After a crash: nothing that was acknowledged is missing, nothing has changed, all is in order; what comes twice was
    /// delivered shortly before, and what was refused comes at most where its refusal was the last thing that happened.
    fn check(disk: &Disk, told: &Told, what: &str) {
        let restarted =
            Bench::start(&Disk::of(disk.state().image.clone())).unwrap_or_else(|why| panic!("{what}: {why}"));
        let found = restarted.everything();
        let owed: Vec<&String> = told.kept.iter().filter(|text| !told.delivered.contains(text)).collect();
        let got: Vec<&String> = found
            .iter()
            .filter(|text| !told.delivered.contains(text) && !told.refused.contains(text))
            .collect();
        assert_eq!(got, owed, "{what}");
        let twice = found.iter().filter(|text| told.delivered.contains(text)).count();
        assert!(
            twice <= 4
                && found
                    .iter()
                    .is_sorted_by_key(|text| text.split(' ').next().unwrap().parse::<u32>().unwrap()),
            "{what}: {found:?}"
        );
    }

    #[test]
    fn known_loss_an_error_of_the_disk_at_any_operation_loses_nothing() {
        let disk = Disk::default();
        let begun = {
            let bench = Bench::start(&disk);
            let begun = disk.state().operations.len();
            let told = live(&mut bench.unwrap());
            assert_eq!((told.kept.len(), told.delivered.len()), (12, 4));
            check(&disk, &told, "without a fault");
            begun
        };
        let operations = disk.state().operations.len();
        assert!(operations > begun + 50, "{operations}");
        let mut failed = 0;
        for at in begun..operations {
            for (failure, more) in [
                (Failure::Without, 0),
                (Failure::Without, 9),
                (Failure::Done, 0),
                (Failure::Half, 0),
                (Failure::Panic, 0),
            ] {
                let disk = Disk::default();
                disk.state().fails = Some((at, failure, more));
                let mut bench = Bench::start(&disk).unwrap();
                let told = live(&mut bench);
                // A bug while the file is opened again looks like a corrupt file.
                if disk.state().set_aside.is_empty() {
                    check(&disk, &told, &format!("{failure:?} at {at} and {more} more"));
                    failed += told.refused.len().min(1);
                }
            }
        }
        assert!(failed > operations - begun, "{failed} of {operations}");
    }

    #[test]
    fn known_loss_a_full_disk_refuses_until_there_is_room() {
        let disk = Disk::default();
        let mut bench = Bench::start(&disk).unwrap();
        let text = |number: usize| format!("{number} {}", "x".repeat(50_000));
        bench.keep(&text(0)).unwrap();
        let full_at = disk.state().image.len();
        disk.state().full_at = Some(full_at);
        let (mut kept, mut refused) = (vec![text(0)], 0);
        for number in 1.. {
            match bench.keep(&text(number)) {
                Ok(()) => kept.push(text(number)),
                Err(why) => {
                    assert!(!why.is_empty());
                    refused += 1;
                }
            }
            // What was given free meanwhile may make room for one more.
            if refused == 6 {
                break;
            }
        }
        disk.state().full_at = None;
        bench.work(Vec::new());
        let trouble = bench.shared.index().trouble.clone();
        assert_eq!(trouble, None);
        bench.keep("last").unwrap();
        kept.push("last".to_owned());
        assert!(bench.everything() == kept);
    }

    #[test]
    fn known_loss_a_file_that_becomes_corrupt_is_set_aside_and_the_queue_goes_on() {
        let disk = Disk::default();
        let mut bench = Bench::start(&disk).unwrap();
        bench.keep("1").unwrap();
        bench.writer.corrupt("for the test");
        assert_eq!(disk.state().set_aside, ["for the test"]);
        let used = bench.shared.index().used();
        assert_eq!(used.bytes, 0);
        bench.keep("2").unwrap();
        assert_eq!(bench.everything(), ["2"]);
    }

    #[test]
    fn whoever_has_gone_is_not_kept() {
        let disk = Disk::default();
        let mut bench = Bench::start(&disk).unwrap();
        let gone = entry("gone");
        let head = super::super::delivery::head(&gone);
        bench.shared.index().reserve(head).unwrap();
        let room = Room {
            shared: Arc::clone(&bench.shared),
            head,
            is_used: false,
        };
        let (answer, _) = oneshot::channel();
        let value = gone.encode();
        bench.work(vec![Kept { room, value, answer }]);
        assert_eq!(bench.shared.index().used().bytes, 0);
        assert!(bench.everything().is_empty());
    }
}
