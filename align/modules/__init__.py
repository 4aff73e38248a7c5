"""Methods: thin LightningModules that score a batch, call an objective and log."""
