"""What a direction is made of: toy models of superposition, dictionaries, decomposition, lenses with parameters."""
