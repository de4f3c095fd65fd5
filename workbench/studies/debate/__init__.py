"""Two sides argue before a judge that sees less than they do."""
