"""Agents. They know the API and nothing of the engine behind it, so any OpenAI-compatible server will do."""
