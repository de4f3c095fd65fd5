"""What a model says about people's rights, against what it knows inside."""
