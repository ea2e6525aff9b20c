"""The audit trail's way out: messages by syslog over TLS to the clinic's audit record repository."""
