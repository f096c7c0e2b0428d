"""Start-up and end of the interpreter, and nothing between."""
