"""`make run` and `make demo`: one Dagster per folder, on a free port, with the page beside it.

Which folders and settings they use is in `places`, the start and the end in `__main__`, what the
demo loads and prints in `demo`. Dagster runs as a process; nothing of it is imported here.
"""
