"""Models: load them, know their parts."""

DTYPES = ("float32", "bfloat16", "float16")
QUANTISATIONS = (None, "nf4", "int8")
