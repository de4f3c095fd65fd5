"""Words that bring a model to safe answers, and words that bring it to harmful ones."""
