//! The page itself: one file with everything in it, for a browser that asks the agent, or for a mail.
//!
//! In: `page.html`, built of `web/` by `make page` and kept here, so that cargo never runs npm; a report's data. Out: HTML.
//! Promise: data cannot end the element that it stands in, whatever a log said. Absent on purpose: what is in the data.

/// The page without data: it asks the agent that it came from.
pub const PAGE: &str = include_str!("page.html");

/// Where data goes.
const SLOT: &str = r#"<script type="application/json" id="harbinger-data">null</script>"#;

/// The page with a report's data inside: it asks nobody. `json` is one JSON value.
pub fn with_data(json: &str) -> String {
    // No `<` is outside a string in JSON, and in a string the escape means the same.
    let data = json.replace('<', r"\u003c");
    let filled = SLOT.replace("null", &data);
    PAGE.replacen(SLOT, &filled, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_place_for_data_and_nothing_ends_it() {
        assert_eq!(PAGE.matches(SLOT).count(), 1);
        let page = with_data(r#"{"text": "</script><script>alert(1)</script><!-- null"}"#);
        assert!(
            page.contains(r#"{"text": "\u003c/script>\u003cscript>alert(1)\u003c/script>\u003c!-- null"}</script>"#)
        );
        assert!(!page.contains("<script>alert"));
    }

    #[test]
    fn the_page_asks_nobody_else() {
        assert!(PAGE.contains("Content-Security-Policy") && PAGE.contains("default-src 'none'"));
        for outside in ["src=\"http", "href=\"http", "url(http", "@import"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
    }
}
