"""The synthetic world: a small universe whose rewards, optimum and preferences are known exactly."""
