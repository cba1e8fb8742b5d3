"""One module per place where models come from; each defines `SOURCE`."""
