"""What a command exports: families, files of the user, and the options that concern them."""
