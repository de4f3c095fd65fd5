"""The studies there are, a line each, and the table of each that holds its main result."""

STUDIES = {
    "udhr": "what a model says about people's rights under a claim, against what it knows inside",
    "probes": "every kind of probe on every layer, whether it carries over, how few samples do, what CCS found, tampering",
    "steering": "does a push along the stance repair what a harm claim breaks, at which price; what undoes refusal",
    "patching": "where a claim overrides the truth: layer by position, heads, and how much one direction carries",
    "caa": "contrastive activation addition on data in its published layout: vectors, layers, coefficients, price (--data FOLDER)",
    "reading": "what can be read of the truth where: dataset, prompt form, site, layers and methods of your choice; the study that sweeps cross",
    "geometry": "are harm and safety opposite, orthogonal or something else: as directions, as information, as causes",
}

MAIN_TABLES = {
    "udhr": "says_and_knows",
    "reading": "summary",
    "probes": "ccs_honesty",
    "geometry": "verdicts",
    "steering": "places",
    "patching": "lines",
    "caa": "test",
}
