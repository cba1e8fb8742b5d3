"""One pass of the model: what is recorded, the scores it is of, and what a method sees of it."""
