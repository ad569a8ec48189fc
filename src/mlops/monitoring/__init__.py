"""Whether the data and the model are still what they were: summaries, checks, decisions. Pure: no I/O, no clock."""
