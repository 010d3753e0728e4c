"""The conversations to learn from, made by programs: one module for each family of jobs."""
