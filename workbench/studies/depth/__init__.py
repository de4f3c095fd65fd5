"""How deep alignment goes along an answer."""
