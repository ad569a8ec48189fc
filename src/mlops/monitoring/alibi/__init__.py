"""alibi-detect's detectors as `alibi/<name>`, run in a child process so that its import and its pins stay out of here.

`catalogue` says what there is, `requests` makes questions of row samples, `worker` keeps one child for all
of them, `licence` says what it asks of its users. Imported only from inside functions of other rooms.
"""
