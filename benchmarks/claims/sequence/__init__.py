"""Claims about relevance over the steps of a sequence."""
