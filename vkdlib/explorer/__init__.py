"""Explore what models make of a face: their answers, where these look, what patches say, which patch matters.

Plain functions return data (`compared`, `patches`, `replies`, `attention`, `lens`, `neurons`, `beta_alpha`),
`figures` draws them, `live` lets a notebook play with them, and `page` writes them to a file that needs no
kernel.
"""

from vkdlib.explorer.twin import page

__all__ = ["page"]
