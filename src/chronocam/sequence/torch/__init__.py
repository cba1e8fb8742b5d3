"""Relevance through the recurrent networks of PyTorch."""
