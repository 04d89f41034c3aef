"""Denoisers: from noise to an image, step by step."""
