"""What users give, as batches of arrays; frames, patches and tiles as clips and pictures."""
