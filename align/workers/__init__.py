"""Other processes that hold a model and are given parts of the work: actors of a Ray cluster."""
