"""This project's prediction service."""
