"""Running the user's network: recorded as operations, in float64, on copies, with whose line is to blame."""
