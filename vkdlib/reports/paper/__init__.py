"""What the papers print and say: their numbers, claims and columns, and an audit of them."""
