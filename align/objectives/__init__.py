"""Objectives: frozen dataclasses whose fields are the hyper-parameters and whose call is the loss."""
