"""The prediction service: it imports the library, never a notebook."""
