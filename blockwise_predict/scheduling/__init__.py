"""Who gets which block, and the connection to the workers.

In the scheduler:
blocks         the blocks of a run, in columns from daisy's scheduler
dispatcher     which worker gets which block; retries holds the rule for failed ones
members        the workers that have joined; roster decides who may, and under which number
server         the thread that serves the workers; worker_server is its event loop's code,
               connection a worker's connection, status what the main thread sees

In a worker:
client         the connection to the scheduler; slots holds the states of the worker's slots

In both: transport (messages over WebSockets over TLS).
"""
