"""The agent `journal-digest`: a day's errors by unit."""
