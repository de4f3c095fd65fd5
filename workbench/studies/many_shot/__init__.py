"""Many-shot prompting as a study."""
