"""Known finish reasons are told in any spelling; of unknown ones nothing is assumed."""

import pytest

from llmlab.finish_reasons import Ended, ended


@pytest.mark.parametrize(
    ("reasons", "how"),
    [
        (("stop", "STOP", None, "", "eos", "eos_token", "end_turn", "endTurn", "stop_sequence", "stopSequence",
          "COMPLETE", "completed", "FINISH_REASON_STOP", "stop-token", "<stop>", "<|im_end|>", "end_of_text", "eos_found"), Ended.WHOLE),
        (("length", "MAX_TOKENS", "max_tokens", "maxTokens", "max_output_tokens", "model_length", "max-tokens",
          "max_new_tokens", "truncated", "TOO_LONG"), Ended.CUT),
        (("content_filter", "contentFiltered", "content-filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT",
          "BLOCKLIST", "SPII", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "sensitive",
          "guardrail_intervened", "guardrailIntervened", "refusal", "MODEL_ARMOR_FILTERED", "moderated", "ERROR_TOXIC",
          "MODEL_ARMOR"),
         Ended.FILTERED),
        (("error", "ERROR", "insufficient_system_resource"), Ended.FAILED),
        (("abort", "network_error", "model_context_window_exceeded", "modelContextWindowExceeded", "timeout",
          "cancelled", "tool_calls", "toolUse", "pause_turn", "OTHER", "LANGUAGE", "MALFORMED_FUNCTION_CALL",
          "IMAGE_OTHER", "FINISH_REASON_UNSPECIFIED", "NO_IMAGE", "unknown", "repetition", "user_cancelled",
          "engine_overloaded", "thinking_budget", "UNEXPECTED_TOOL_CALL", "ERROR_LIMIT", "out_of_memory"), Ended.UNKNOWN),
    ],
)  # fmt: skip
def test_what_a_finish_reason_means(reasons, how):
    assert {reason: ended(reason) for reason in reasons} == dict.fromkeys(reasons, how)
