//! Which column or field holds what: by its usual names, unless the user named it.
//!
//! Enters: names. Leaves: roles. Source of the names: the loggers, shippers and public data sets of the field (log4j, zap,
//! zerolog, slog, pino, bunyan, structlog, Serilog, logrus, journald, Docker, ECS, GELF, Loki, Datadog).
//! Promise: of two columns for one role the one whose name comes first below wins, whatever their order in the file.

use super::Settings;

/// What a column can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Message,
    Time,
    Service,
    Severity,
    TraceId,
    SpanId,
    RequestId,
}

impl Role {
    /// All, in the order of [`Role::index`].
    pub(super) const ALL: [Role; 7] = [
        Role::Message,
        Role::Time,
        Role::Service,
        Role::Severity,
        Role::TraceId,
        Role::SpanId,
        Role::RequestId,
    ];

    /// Names in order of preference, in lower case and without `_`, `-` and spaces.
    const fn names(self) -> &'static [&'static str] {
        match self {
            Role::Message => &[
                "message",
                "msg",
                "@m",
                "renderedmessage",
                "@mt",
                "shortmessage",
                "body",
                "log",
                "logmessage",
                "content",
                "text",
                "event",
                "line",
                "description",
                "eventtemplate",
            ],
            Role::Time => &[
                "timestamp",
                "@timestamp",
                "time",
                "datetime",
                "ts",
                "@t",
                "eventtime",
                "date",
                "sourcerealtimetimestamp",
                "realtimetimestamp",
                "asctime",
                "timeunixnano",
                "observedtimestamp",
                "t",
            ],
            Role::Service => &[
                "service",
                "servicename",
                "service.name",
                "component",
                "app",
                "application",
                "appname",
                "syslogidentifier",
                "program",
                "container",
                "containername",
                "systemdunit",
                "unit",
                "logger",
                "loggername",
                "module",
                "name",
            ],
            Role::Severity => &[
                "severity",
                "severitytext",
                "level",
                "loglevel",
                "log.level",
                "levelname",
                "lvl",
                "@l",
                "priority",
                "severitynumber",
            ],
            Role::TraceId => &["traceid", "trace.id", "@tr"],
            Role::SpanId => &["spanid", "span.id", "@sp"],
            Role::RequestId => &["requestid", "request.id", "reqid", "xrequestid", "correlationid"],
        }
    }

    /// What the user named it, and the option that did.
    pub(super) fn chosen(self, settings: &Settings) -> Option<(&str, &'static str)> {
        let (name, option) = match self {
            Role::Message => (&settings.message_column, "message-column"),
            Role::Time => (&settings.time_column, "time-column"),
            Role::Service => (&settings.service_column, "service-column"),
            Role::Severity => (&settings.severity_column, "severity-column"),
            Role::TraceId | Role::SpanId | Role::RequestId => return None,
        };
        name.as_deref().map(|name| (name, option))
    }

    /// How much a column of this name is meant for the role: 0 is best, `None` not at all.
    pub(super) fn preference(self, name: &str) -> Option<usize> {
        let bare: String = name
            .trim()
            .chars()
            .filter(|c| !matches!(c, '_' | '-' | ' '))
            .map(|c| c.to_ascii_lowercase())
            .take(32)
            .collect();
        self.names().iter().position(|known| *known == bare)
    }

    /// Its place in [`Role::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// The index of the column for each role, found by name alone.
pub(super) fn find<'n>(names: impl Iterator<Item = &'n str> + Clone) -> [Option<usize>; 7] {
    Role::ALL.map(|role| {
        let preferred = names
            .clone()
            .enumerate()
            .filter_map(|(index, name)| Some((role.preference(name)?, index)));
        preferred.min().map(|(_, index)| index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_known_however_they_are_written() {
        let names = [
            "Trace_ID",
            "log",
            "Level",
            "@timestamp",
            "Message",
            "service.name",
            "REQUEST-ID",
        ];
        let found = find(names.into_iter());
        assert_eq!(found, [Some(4), Some(3), Some(5), Some(2), Some(0), None, Some(6)]);
        for role in Role::ALL {
            assert_eq!(Role::ALL.get(role.index()), Some(&role));
        }
    }
}
