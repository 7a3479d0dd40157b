"""Units × models × prompts × runs → a plan of trials; and what a cell of a unit says as text."""

from llmlab.units.cells import plain, text_of
from llmlab.units.plan import Grid, Picked, Plan, Units
from llmlab.units.read import listed, read_units

__all__ = ["Grid", "Picked", "Plan", "Units", "listed", "plain", "read_units", "text_of"]
