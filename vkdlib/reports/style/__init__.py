"""How reports look: names, colours, and what figures say of themselves."""
