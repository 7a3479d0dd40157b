"""One request to a provider, and its answer as a record: tokens first, then the text or the error."""

from llmlab.client.batch import BatchClient, BatchState
from llmlab.client.batch_lines import MOST_BYTES, MOST_LINES, lacking_lines, read_lines, write_line
from llmlab.client.catalogue import similar_models
from llmlab.client.chat import ChatClient, checked_request
from llmlab.client.endpoint import Endpoint, resolve
from llmlab.client.images import Image, image
from llmlab.client.redact import without
from llmlab.client.response_format import Again, AnswerForms
from llmlab.client.usage import prompt_tokens

__all__ = [
    "MOST_BYTES",
    "MOST_LINES",
    "Again",
    "AnswerForms",
    "BatchClient",
    "BatchState",
    "ChatClient",
    "Endpoint",
    "Image",
    "checked_request",
    "image",
    "lacking_lines",
    "prompt_tokens",
    "read_lines",
    "resolve",
    "similar_models",
    "without",
    "write_line",
]
