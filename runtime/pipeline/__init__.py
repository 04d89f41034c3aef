"""Several models in one call: priors that draw from one another, and the decoder behind them."""
