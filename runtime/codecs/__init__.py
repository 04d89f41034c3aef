"""Decoders and encoders: from codes to images and back."""
