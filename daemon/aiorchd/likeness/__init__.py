"""Arrays: vectors of texts, the nearest of many, and the fit of the semantic model. Needs the extra ``semantic``."""
