"""The connection between the scheduler and its workers: messages over WebSockets over TLS."""
