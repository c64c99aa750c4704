"""What the sensors decide: the ledger of partitions, and plans made from it.

Pure functions over values: nothing here reads an instance or a clock.
"""
