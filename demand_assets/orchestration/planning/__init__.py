"""What the sensors decide: the ledger of partitions, and plans made from it.

Pure functions over values: nothing here imports Dagster, reads an instance or reads a clock.
"""
