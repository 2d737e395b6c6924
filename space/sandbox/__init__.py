"""Decodes what visitors send in worker processes, each of which serves one visitor and ends.

`client.py` is the app's side, `fork_server.py` forks the workers, `worker.py` is what a worker does, and `messages.py`
is how the two talk.
"""
