"""One request to a provider, and its answer as a record: tokens first, then the text or the error."""

from llmlab.client.batch import BatchClient, BatchState
from llmlab.client.batch_lines import BatchFile, missing_line, not_executed, read_lines, write_files
from llmlab.client.chat import ChatClient, checked_request
from llmlab.client.endpoint import Endpoint, resolve
from llmlab.client.images import Image, image
from llmlab.client.redact import without
from llmlab.client.response_format import AnswerForms
from llmlab.client.usage import prompt_tokens

__all__ = [
    "AnswerForms",
    "BatchClient",
    "BatchFile",
    "BatchState",
    "ChatClient",
    "Endpoint",
    "Image",
    "checked_request",
    "image",
    "missing_line",
    "not_executed",
    "prompt_tokens",
    "read_lines",
    "resolve",
    "without",
    "write_files",
]
