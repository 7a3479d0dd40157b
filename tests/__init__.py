"""A package of its own, since distributions exist that install one named `tests` beside their modules."""
