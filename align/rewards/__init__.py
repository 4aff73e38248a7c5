"""Rewards: what scores single responses."""
