"""Measures the engine: fixed workloads, the same numbers for each, and the same requests through transformers."""
