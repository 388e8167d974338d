"""The explorer in a notebook: widgets (ipywidgets) over the plain functions and figures."""
