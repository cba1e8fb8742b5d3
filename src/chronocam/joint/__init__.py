"""What a batch is, what a layer returned on its grid, and what is made of one pass."""
