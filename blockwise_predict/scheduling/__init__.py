"""Handing out blocks: which is next, to whom, how often, and the connection to the workers."""
