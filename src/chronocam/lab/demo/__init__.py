"""What `chronocam demo` shows: each part writes pages, and yields a plain sentence for each result."""
