"""Relevance through the recurrent networks of Keras."""
