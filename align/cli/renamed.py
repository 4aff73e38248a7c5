"""What classes, settings and verbs were called before, so that who names them is told their present names."""

FORMER_PACKAGES = ("align.", "callbacks.")
RENAMED = {
    "AdapterOff": "BaseWithoutAdapters",
    "GoodBadModule": "PreferredDispreferredModule",
    "BestOfN": "BestOfNLikelihood",  # the objective; the selection of rounds keeps the name
    "BestByDirection": "DirectionalRejectionSampling",
    "Points": "MinMaxScaled",
    "Weighted": "WeightedAttributes",
    "Mixture": "ReferenceMixture",
    "Prompts": "PromptsOnly",
    "RewardOracle": "RewardModelScorer",
}
RENAMED_SETTINGS = {"builder": "selection", "halves": "alternate_halves"}
RENAMED_CONFIGS = {"fsdp": "trainer/fsdp2", "trainer/fsdp": "trainer/fsdp2"}
RENAMED_VERBS = {
    "directions": "front measure",
    "export-vectors": "steer export",
    "init-model": "init model",
    "pareto": "front compare",
    "probe": "benchmark probe",
    "rank": "data rank",
    "rounds": "show",
    "soup": "merge",
    "stages": "run",
    "sweep": "steer sweep",
    "synthetic-base": "init world",
    "synthetic-data": "data world",
}
