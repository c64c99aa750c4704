"""`make bench`: what a backfill costs, and where it goes."""
