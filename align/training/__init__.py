"""What every method shares while it trains: the module behind them, steps, checkpoints, references, metrics."""
