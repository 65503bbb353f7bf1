"""The connection between scheduler and workers: messages over WebSockets over TLS.

connect is the worker's side, gate the scheduler's; both use wire (a connection), messages, tls and
sockets.
"""
