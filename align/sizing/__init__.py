"""What a run needs before it runs: memory of each GPU, time on named cards, and settings that fit."""
