//! Masking: turns a text into its template by replacing what varies between two runs of one log statement.
//!
//! Enters: any text. Leaves: the text with whitespace folded, terminal colours gone, and values replaced by
//! placeholders: `<n>` numbers (with their units), `<hex>`, `<uuid>`, `<ip>` (with port), `<mac>`, `<ts>` dates and times,
//! `<email>`, `<id>` opaque tokens, `<s>` query-string values and SQL string literals, `<agent>` browser names.
//!
//! Promises: total and panic-free on any text; `mask(mask(x)) == mask(x)`; at most [`MAX_TEMPLATE_BYTES`] long; one pass
//! with bounded look-ahead. Every decision is a function of what was written so far and of the text ahead, and a
//! placeholder is never read as a value: this is what makes it idempotent.
//!
//! What survives on purpose: words in quotes (`'items'`, `"GET /x"`: exceptions and states are named there), HTTP
//! statuses 400–599 behind a request line or the word *status*, exit codes, signals and errno values: they say more than
//! the words around them, and there are few of them. Absent: anything learned from the stream; a template depends on its text alone.

mod addresses;
mod contexts;
mod dates;
mod shapes;
mod values;

use super::escapes::{ESCAPE, without_escapes};
use addresses::{mac, uuid};
use dates::worded_time;
pub(super) use shapes::{at, run_within};
use shapes::{before, is_compound, run};

/// Longest template in bytes. The embedder reads 256 tokens, about as much; what lies beyond would only split templates.
pub const MAX_TEMPLATE_BYTES: usize = 1024;

/// Longest token that is looked at as a whole, so that look-ahead stays linear.
const MAX_TOKEN_BYTES: usize = 512;

/// Writes the template of `text` to `out`, which is cleared first.
pub fn mask(text: &str, out: &mut String) {
    out.clear();
    if text.as_bytes().contains(&ESCAPE) {
        return mask(&without_escapes(text), out);
    }
    let bytes = text.as_bytes();
    let mut masker = Masker {
        text,
        bytes,
        position: 0,
        copied: 0,
        out,
        local: 0,
        examined: 0,
        sql: false,
        full: false,
        sql_read: 0,
    };
    while !masker.full && masker.position < bytes.len() {
        masker.step();
    }
    masker.flush();
    let full = masker.full;
    if full {
        // Cut behind a whole word: half of one could be read as something else.
        out.truncate(out.rfind(' ').unwrap_or(out.len()));
    }
    out.truncate(out.trim_end_matches(' ').len());
}

/// The state of one pass.
struct Masker<'t, 'o> {
    text: &'t str,
    bytes: &'t [u8],
    /// Everything before it is decided.
    position: usize,
    /// Everything before it is in `out`; what lies between is copied as it stands, at the next placeholder.
    copied: usize,
    out: &'o mut String,
    /// Where in `out` the local part of an e-mail address would begin, if it began before `copied`.
    local: usize,
    /// The compound token up to here was looked at already.
    examined: usize,
    /// An SQL verb was written before `sql_read`: quoted strings are literals.
    sql: bool,
    sql_read: usize,
    /// `out` has no room for more.
    full: bool,
}

/// Bytes that mean nothing by themselves. All others are looked at: most turn out to mean nothing where they stand.
#[allow(clippy::indexing_slicing)] // evaluated by the compiler, which would refuse an index out of bounds
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut byte = 0;
    while byte < 256 {
        let looked_at =
            matches!(byte as u8, 0..=b' ' | 0x7f | b'0'..=b'9' | b'-' | b'+' | b':' | b'@' | b'?' | b'\'' | b'"');
        plain[byte] = !looked_at;
        byte += 1;
    }
    plain
};

impl Masker<'_, '_> {
    /// Passes over plain text up to a byte worth a look, and looks; always moves on.
    fn step(&mut self) {
        let bytes = self.bytes;
        let rest = bytes.get(self.position..).unwrap_or_default();
        let mut start = self.position + rest.len();
        let mut byte = 0;
        for (index, candidate) in rest.iter().enumerate() {
            if PLAIN.get(usize::from(*candidate)).copied().unwrap_or(false) {
                continue;
            }
            let position = self.position + index;
            // A single space between words is plain, too.
            if *candidate != b' ' || at(bytes, position + 1) <= b' ' || position == self.copied {
                (start, byte) = (position, *candidate);
                break;
            }
        }
        if start == bytes.len() {
            self.position = start;
            return;
        }
        self.position = start;
        match byte {
            b'0'..=b'9' => self.digit(),
            0..=b' ' | 0x7f => self.space(),
            b'-' | b'+' => self.sign(byte),
            b':' if at(bytes, start + 1) == b':' => self.double_colon(),
            b':' => {
                self.position += 1;
                self.lettered_mac(b':');
            }
            b'@' => self.at_sign(),
            b'?' => self.query(),
            b'\'' => self.apostrophe(),
            b'"' if bytes.get(start + 1..start + 9) == Some(b"Mozilla/") => {
                self.position += 1;
                self.emit("<agent>", run(bytes, start + 9, |byte| byte != b'"'));
            }
            _ => self.position += 1,
        }
    }

    /// Copies what is decided and not yet in `out`, as much of it as fits.
    fn flush(&mut self) {
        if self.copied == self.position {
            return;
        }
        let room = MAX_TEMPLATE_BYTES.saturating_sub(self.out.len());
        let mut piece = self.text.get(self.copied..self.position).unwrap_or_default();
        if piece.len() > room {
            self.full = true;
            piece = piece.get(..piece.floor_char_boundary(room)).unwrap_or_default();
        }
        self.out.push_str(piece);
        if let Some(last) = piece.bytes().rposition(|byte| !is_local(byte)) {
            self.local = self.out.len() - (piece.len() - last - 1);
        }
        self.copied = self.position;
    }

    /// Leaves out the text up to `end`; everything before it must be in `out`.
    fn skip_to(&mut self, end: usize) {
        self.position = end;
        self.copied = end;
    }

    /// Writes a placeholder for the text from `position` to `end`. A list of equal ones, however long, is one.
    fn emit(&mut self, placeholder: &str, end: usize) {
        self.flush();
        self.skip_to(end);
        let head: &[u8] = match self.out.as_bytes() {
            [head @ .., b'\'', b',', b' ', b'u', b'\''] => head,
            [head @ .., b'\'', b',', b' ', b'\''] | [head @ .., b'\'', b',', b'\''] => head,
            [head @ .., b'"', b',', b' ', b'"'] | [head @ .., b'"', b',', b'"'] => head,
            [head @ .., b',', b' '] | [head @ .., b',' | b' '] => head,
            _ => &[],
        };
        // One that is part of a word (`HTTP/<n> <n>`, `worker<n> <n>`) is no element of a list.
        let alone = head.strip_suffix(placeholder.as_bytes()).is_some_and(|lead| {
            !lead
                .last()
                .is_some_and(|byte| is_compound(*byte) || matches!(byte, b'/' | b'.' | b'>' | 0x80..))
        });
        if alone {
            let kept = head.len();
            self.out.truncate(kept);
            self.local = self.local.min(kept);
            return;
        }
        if self.out.len() + placeholder.len() > MAX_TEMPLATE_BYTES {
            self.full = true;
        } else {
            self.out.push_str(placeholder);
        }
    }

    /// Writes a placeholder for the text from `start` (not copied yet) to `end`.
    fn replace(&mut self, placeholder: &str, start: usize, end: usize) {
        self.position = start;
        self.emit(placeholder, end);
    }

    fn space(&mut self) {
        let end = run(self.bytes, self.position, |byte| matches!(byte, 0..=b' ' | 0x7f));
        // A day of the month below ten is often padded with a space.
        if end == self.position + 2
            && let Some((from, after)) = worded_time(self.bytes, end, self.copied)
        {
            return self.replace("<ts>", from, after);
        }
        self.flush();
        self.skip_to(end);
        if !self.out.is_empty() && !self.out.ends_with(' ') {
            self.full |= self.out.len() >= MAX_TEMPLATE_BYTES;
            if !self.full {
                self.out.push(' ');
            }
        }
        self.local = self.out.len();
    }

    /// A hyphen or plus: a number's sign, part of a UUID or MAC address of letters only, or just itself.
    fn sign(&mut self, byte: u8) {
        let start = self.position;
        let bytes = self.bytes;
        if at(bytes, start + 1).is_ascii_digit() && !before(bytes, start).is_ascii_alphanumeric() {
            self.flush();
            self.skip_to(start + 1);
            return self.digit();
        }
        self.position += 1;
        if byte == b'+' {
            return;
        }
        if start >= self.copied + 8
            && at(bytes, start + 5) == b'-'
            && let Some(after) = uuid(bytes, start - 8)
        {
            return self.replace("<uuid>", start - 8, after);
        }
        self.lettered_mac(b'-');
    }

    /// Behind a separator: does it end the first two letters of a MAC address?
    fn lettered_mac(&mut self, separator: u8) {
        let first = self.position;
        if at(self.bytes, first + 2) != separator || first < self.copied + 3 {
            return;
        }
        let start = first - 3;
        let previous = before(self.bytes, start);
        // Behind a placeholder, two letters are what is left of something else.
        let bounded = previous < 0x80 && !is_compound(previous) && previous != b'>';
        if bounded && let Some(after) = mac(self.bytes, start) {
            self.replace("<mac>", start, after);
        }
    }

    /// The first digit of a run of letters and digits.
    fn digit(&mut self) {
        let digit = self.position;
        let mut start = digit;
        while start > self.copied && before(self.bytes, start).is_ascii_alphanumeric() {
            start -= 1;
        }
        let end = run_within(self.bytes, digit + 1, MAX_TOKEN_BYTES, |byte| {
            byte.is_ascii_alphanumeric()
        });
        if at(self.bytes, end) == b'-'
            && end - start >= 8
            && let Some(after) = uuid(self.bytes, end - 8)
        {
            self.position = start;
            self.name(end - 8);
            return self.emit("<uuid>", after);
        }
        if start == digit {
            return self.number();
        }
        if !self.opaque_compound(digit) {
            self.position = start;
            self.mixed();
        }
    }
}

/// May the byte stand before the `@` of an e-mail address?
fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use proptest::prelude::*;

    use super::*;

    fn masked(text: &str) -> String {
        let mut out = String::new();
        mask(text, &mut out);
        out
    }

    /// One row a rule: what goes in, what comes out.
    #[test]
    fn replaces_each_kind_of_value() {
        let rows = [
            // numbers, signs, decimals, exponents, units, sizes that change with the magnitude
            ("took 12 ms of 1.5 s: -3 of +4, 5", "took <n> of <n> s: <n> of <n>"),
            ("read 12ms 1h30m 950µs 4.3 KB 5KiB 1e-5 10%", "read <n>%"),
            (
                "block blk_-1608999687919862906 of part-00590",
                "block blk_<n> of part-<n>",
            ),
            ("python2.7 v1.2.3 worker12 ssh2", "python<n> v<n> worker<n> ssh<n>"),
            ("attempt_1445144423722_0020_m_000001_0", "attempt_<n>_<n>_m_<n>_<n>"),
            ("range 10-20 and 3rd, 5x", "range <n>-<n> and <n>rd, <n>x"),
            // hashes
            ("at 0x1F3 and 0XdeadBEEF", "at <hex> and <hex>"),
            (
                "commit 1f3a9c2 of d41d8cd98f00b204e9800998ecf8427e",
                "commit <hex> of <hex>",
            ),
            ("feedface deadbeef added", "feedface deadbeef added"),
            ("dear 00544eb8 iar 00105108", "dear <hex> iar <hex>"),
            ("Object@1b2c3d4e for interface12345678", "Object@<hex> for interface<n>"),
            (
                "port tapcc12f3b4-f5 on qr-0a1b2c3d-de up",
                "port tap<hex> on qr-<hex> up",
            ),
            ("pod orders-7f8d9c6b5-x2k4z ready", "pod orders-<hex> ready"),
            // UUIDs, with groups of letters only, glued to words
            ("req-8a9d88e8-bc1c-41df-80f6-7fecf2079f32 ok", "req-<uuid> ok"),
            ("id=abcdefab-cdef-abcd-efab-cdefabcdefab_del", "id=<uuid>_del"),
            ("vol5deadbeef-dead-beef-dead-beefdeadbeef", "vol<n><uuid>"),
            ("12345678-1234-1234-1234-123456789012", "<uuid>"),
            ("2345678d-ce12-bf1a-8b12-123456789012", "<uuid>"),
            // addresses
            (
                "src: /10.250.19.102:54106 dest: 10.0.0.1, 1.2.3.4.5",
                "src: /<ip> dest: <ip>, <n>",
            ),
            ("[::1]:8080 fe80::1%eth0 2001:db8:0:0:0:0:0:1", "[<ip>]:<n> <ip>"),
            ("::ffff:10.0.0.1 std::vector::at a::b", "<ip> std::vector::at a::b"),
            ("mac fa:16:3e:1f:00:2b and AA-BB-CC-DD-EE-FF", "mac <mac> and <mac>"),
            ("from 0:0:0:0:0:0:0:0:2181", "from <ip>"),
            // dates and times
            ("2024-11-18T10:00:00.123Z up", "<ts> up"),
            ("at 2024-11-18 10:00:00,123 +0200 and 2024/11/18", "at <ts> and <ts>"),
            ("Sep 28 10:00:00 host: x", "<ts> host: x"),
            ("on Fri Jul  1 10:00:00 PDT 2005 it", "on <ts> it"),
            ("[28/Sep/2018:10:00:00 +0000] \"GET", "[<ts>] \"GET"),
            ("Sun, 06 Nov 1994 08:49:37 GMT", "<ts>"),
            ("20171223-22:15:29:606 20240131T101500Z took 00:00:03", "<ts> took <ts>"),
            // e-mail, tokens
            ("mail to jane.doe42+x@mail.example.org now", "mail to <email> now"),
            (
                "user@host and localhost.localdomain@lvm#lvm",
                "user@host and localhost.localdomain@lvm#lvm",
            ),
            (
                "TOKEN: eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ9.ZjiAeIfS-8_x USER",
                "TOKEN: <id> USER",
            ),
            ("key 9xQ2mVb7TpL4sKd8Zr1N ok", "key <id> ok"),
            ("ulid 01ARZ3NDEKTSV4RRFFQ69G5FAV", "ulid <id>"),
            (
                "tempest-VOLUME_SAMPLE-1234567 HttpServer2QuotingInputFilter",
                "tempest-VOLUME_SAMPLE-<n> HttpServer<n>QuotingInputFilter",
            ),
            // queries, SQL, browsers
            (
                "GET /v2/ports?tenant_id=ab1&name=x&name=y HTTP",
                "GET /v2/ports?tenant_id=<s>&name=<s> HTTP",
            ),
            ("what? a=b", "what? a=b"),
            (
                "INSERT INTO t VALUES (1, 'Ann Lee', 'x')",
                "INSERT INTO t VALUES (<n>, '<s>')",
            ),
            ("object has no attribute 'items'", "object has no attribute 'items'"),
            (
                "\"GET / HTTP/1.1\" 200 5 \"-\" \"Mozilla/5.0 (X11; x) Firefox/1\"",
                "\"GET / HTTP/<n>\" <n> \"-\" \"<agent>\"",
            ),
            // lists, however long
            ("set([u'1', u'2', u'3']) of 1, 2,3 4", "set([u'<n>']) of <n>"),
            // whitespace, colours, control bytes
            ("  a \t\r\n b\u{0}c\x1b[1;31mred\x1b[0m ", "a b cred"),
            ("第5章 été2", "第<n>章 été<n>"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(masked(text), expected.replace("/v2/", "/v<n>/"), "from {text:?}");
        }
    }

    /// A refused request and a failed process stay distinguishable from a good one.
    #[test]
    fn statuses_survive_where_they_mean_something() {
        let rows = [
            (
                "\"GET /x HTTP/1.1\" status: 404 len: 382",
                "\"GET /x HTTP/<n>\" status: 404 len: <n>",
            ),
            ("\"GET /x HTTP/1.1\" 503 157", "\"GET /x HTTP/<n>\" 503 <n>"),
            ("\"GET /x HTTP/1.1\" 200 157", "\"GET /x HTTP/<n>\" <n>"),
            ("GET /x HTTP/1.1 200 540 1", "GET /x HTTP/<n> <n>"),
            ("GET /x HTTP/1.1 502 540", "GET /x HTTP/<n> 502 <n>"),
            ("returned with HTTP 500", "returned with HTTP 500"),
            ("{\"status\":502,\"id\":7}", "{\"status\":502,\"id\":<n>}"),
            ("exited with code 137, signal 9", "exited with code 137, signal 9"),
            ("[Errno 111] Connection refused", "[Errno 111] Connection refused"),
            (
                "exit code 4096 in slot 404, status 404ms",
                "exit code <n> in slot <n>, status <n>",
            ),
        ];
        for (text, expected) in rows {
            assert_eq!(masked(text), expected, "from {text:?}");
        }
    }

    /// However long the text: the template is bounded, ends at a word, and costs no more than one pass.
    #[test]
    fn output_is_bounded() {
        for text in [
            "word 7 ".repeat(20_000),
            "é".repeat(50_000),
            "a1-".repeat(50_000),
            "'".repeat(50_000),
            "SELECT '".repeat(9_000),
        ] {
            let out = masked(&text);
            assert!(out.len() <= MAX_TEMPLATE_BYTES);
            assert_eq!(masked(&out), out);
        }
    }

    /// Pieces of what logs are made of, so that random texts hit the shapes and their edges.
    fn piece() -> impl Strategy<Value = String> {
        let literal = prop::sample::select(vec![
            " ",
            "  ",
            "-",
            ":",
            "::",
            ".",
            ",",
            ", ",
            "'",
            "\"",
            "=",
            "?",
            "&",
            "@",
            "/",
            "_",
            "<",
            ">",
            "(",
            "+",
            "%",
            "\x1b[1m",
            "<n>",
            "<hex>",
            "<uuid>",
            "<",
            "0x",
            "status ",
            "status: ",
            "HTTP/1.1\" ",
            "exit code ",
            "signal ",
            "Sep ",
            "Fri ",
            "UTC",
            "eyJ",
            "SELECT",
            "VALUES ",
            "\"Mozilla/5.0 ",
            "ab:cd:ef:ab:cd:ef",
            "deadbeef-dead-beef-dead-beefdeadbeef",
            "10.0.0.1",
            "10:00:00",
            "2024-11-18",
            "fe80::",
            "a@b.example",
            "KB",
            "ms",
            "T",
            "Z",
            "é",
            "µs",
            "404",
            "12",
            "u'",
            "tap",
            "?a=b&a=c",
        ]);
        prop_oneof![
            4 => literal.prop_map(String::from),
            3 => "[0-9]{1,9}",
            2 => "[a-zA-Z]{1,9}",
            2 => "[0-9a-f]{1,12}",
            1 => "[a-zA-Z0-9_-]{12,40}",
            1 => any::<char>().prop_map(String::from),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

        /// A template is its own template.
        #[test]
        fn is_idempotent(pieces in prop::collection::vec(piece(), 0..24)) {
            let once = masked(&pieces.concat());
            prop_assert_eq!(masked(&once), once);
        }

        /// Any text at all: no panic, bounded, whitespace folded.
        #[test]
        fn is_total(text in any::<String>()) {
            let once = masked(&text);
            prop_assert!(once.len() <= MAX_TEMPLATE_BYTES);
            prop_assert!(!once.contains("  ") && !once.contains('\n') && once.trim_matches(' ') == once);
            prop_assert_eq!(masked(&once), once);
        }

        /// Two requests that differ in nothing but their ids have one template.
        #[test]
        fn uuids_never_leak(id in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}") {
            prop_assert_eq!(masked(&format!("delete volume-{id} (req-{id}) done")), "delete volume-<uuid> (req-<uuid>) done");
        }
    }
}
