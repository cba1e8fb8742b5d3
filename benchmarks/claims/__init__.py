"""Claims about maps, as numbers with intervals, and the pages that say how they come out."""
