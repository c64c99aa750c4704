"""The assets, one module per group. A body arranges calls into the domain and computes nothing."""
