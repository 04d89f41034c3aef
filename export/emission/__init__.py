"""Deciding the graphs."""
