"""What classes and settings were called before, so that files which name them are told their present names."""

FORMER_PACKAGES = ("align.", "callbacks.")
RENAMED = {
    "BaseWithoutAdapters": "BaseWithoutAdapters",
    "PreferredDispreferredModule": "PreferredDispreferredModule",
    "DirectionalRejectionSampling": "DirectionalRejectionSampling",
    "Points": "MinMaxScaled",
    "Weighted": "WeightedAttributes",
    "Mixture": "ReferenceMixture",
    "Prompts": "PromptsOnly",
    "RewardModelScorer": "RewardModelScorer",
}
RENAMED_SETTINGS = {"builder": "selection", "halves": "alternate_halves"}
