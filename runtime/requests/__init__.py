"""What a caller asks for, checked before anything runs."""
