"""Ask a model, measure its answers, compare two."""
