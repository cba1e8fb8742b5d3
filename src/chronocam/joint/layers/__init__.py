"""Which layer is explained where none is named, and which of its calls."""
