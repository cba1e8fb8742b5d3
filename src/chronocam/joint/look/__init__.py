"""One batch as the model sees it: what its axes mean, where layers look, and what is known of the model."""
