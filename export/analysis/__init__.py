"""When every value can be known, where it is kept, and in which graph it is computed."""
