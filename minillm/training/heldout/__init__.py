"""The sets that nothing was trained on, made by programs that share no template, name or domain with the data."""
