"""One request to a provider, and its answer as a record: tokens first, then the text or the error."""

from llmlab.client.chat import ChatClient, checked_request
from llmlab.client.endpoint import Endpoint, resolve
from llmlab.client.response_format import AnswerForms
from llmlab.client.usage import prompt_tokens

__all__ = ["AnswerForms", "ChatClient", "Endpoint", "checked_request", "prompt_tokens", "resolve"]
