"""How a vanilla or retain-only model is made."""
