"""The weather agent with Microsoft's Agent Framework, which follows Semantic Kernel and AutoGen.

Endpoint: /v1/responses. Particular: it sends only what is new and names the answer before it in
`previous_response_id`, so the server has to keep the conversation. For /v1/chat/completions it has
`OpenAIChatCompletionClient`.
Needs: pip install agent-framework-core agent-framework-openai
"""

import asyncio
import os

from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient

BASE_URL = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1")
API_KEY = os.environ.get("OPENAI_API_KEY", "not-needed")
MODEL = os.environ.get("MINILLM_MODEL", "smollm2-135m")
INSTRUCTIONS = "You are a helpful assistant. Answer the question in one sentence with what the function returned."
QUESTION = "How warm is it in Oslo?"
TEMPERATURES = {"Oslo": 4, "Cairo": 31, "Lima": 19}


def get_temperature(city: str) -> str:
    """Tells how warm it is in a city now.

    Args:
        city: The name of the city.
    """
    result = f"{TEMPERATURES[city]} °C" if city in TEMPERATURES else f"No thermometer in {city}."
    print(f"get_temperature({city!r}) -> {result!r}")
    return result


async def ask(question: str) -> str:
    """Answers a question about temperatures, with the tool's help."""
    client = OpenAIChatClient(MODEL, base_url=BASE_URL, api_key=API_KEY)
    choice = {"mode": "required", "required_function_name": "get_temperature"}
    options = {"tool_choice": choice, "temperature": 0, "max_tokens": 64}
    agent = Agent(client, INSTRUCTIONS, name="weather", tools=[get_temperature], default_options=options)
    response = await agent.run(question)
    return response.text


if __name__ == "__main__":
    print("answer:", asyncio.run(ask(QUESTION)))
