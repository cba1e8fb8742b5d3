"""What `chronocam demo` shows."""
