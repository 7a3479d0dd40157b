"""What the frames say: agreement, scores, costs. Frames in, frames out."""

from llmlab.analysis.agreement import agreement, arm_columns, consensus, nullable, wide
from llmlab.analysis.scoring import Gold, Score, compare, costs, score

__all__ = ["Gold", "Score", "agreement", "arm_columns", "compare", "consensus", "costs", "nullable", "score", "wide"]
