"""What a command does beyond parsing: inputs are found, explained, drawn and written down."""
