"""Performance before labels are here, from what the model said (CBPE) or from what errors were like (DLE)."""
