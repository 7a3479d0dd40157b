"""One request to a provider, and its reply as a record: tokens first, then the text or the error."""

from llmlab.client.chat import ChatClient, Endpoint, checked_request, resolve
from llmlab.client.response import prompt_tokens
from llmlab.client.response_format import AnswerForms

__all__ = ["AnswerForms", "ChatClient", "Endpoint", "checked_request", "prompt_tokens", "resolve"]
