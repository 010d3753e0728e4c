"""One agent nine times: the same tool, question and printed result, each in another framework.

Each is a program of its own that imports its framework and nothing else, and runs against any OpenAI-compatible
server. `make test-clients` makes the environments that it needs and runs them all.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 MINILLM_MODEL=smollm2-135m \\
        .venv-clients/frameworks/bin/python -m minillm.agents.frameworks.with_langgraph

| program | lines of its own | endpoint | the call is forced by | what it sends that others don't |
|---|---|---|---|---|
| `with_openai` | 16 | chat | `required` | only what is written in it |
| `with_openai_agents` | 7 | responses | the tool's name | tools with `strict: true`; the whole conversation each time |
| `with_pydantic_ai` | 8 | chat | `required` | tools with `strict: true`; `max_completion_tokens` |
| `with_semantic_kernel` | 12 | chat | `required` | `name` on the system message; no `content` beside tool calls |
| `with_autogen` | 12 | chat | `required` | `name` on the user's messages; tools with `strict: false` |
| `with_langgraph` | 15 | chat | the tool's name | `parallel_tool_calls: false`; `max_completion_tokens` |
| `with_llama_index` | 14 | chat | the tool's name | `stream: true`; `parallel_tool_calls: true` |
| `with_smolagents` | 15 | chat | the tool's name | content as parts; `stop`; results as the user's text |
| `with_agent_framework` | 6 | responses | the tool's name | `previous_response_id` and only what is new |
"""
