"""What is measured: speed, memory, and what is claimed of maps."""
