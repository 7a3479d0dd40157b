"""Frames → matplotlib Axes."""
