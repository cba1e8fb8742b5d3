"""Runs over a data set: a frozen plan, a Parquet part for each shard, and what reads them back."""
