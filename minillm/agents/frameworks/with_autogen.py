"""The weather agent with AutoGen.

Endpoint: /v1/chat/completions. Particular: agents send each other messages, in teams. A model that AutoGen doesn't know
needs its `model_info`. The agent leaves the tool to the model, so it's the client that insists; to reflect on the
tool's result, the agent asks once more without tools.
Needs: pip install autogen-agentchat 'autogen-ext[openai]'
"""

import asyncio
import os
from functools import partial

from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import ModelFamily, ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient

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
    info = ModelInfo(
        vision=False, function_calling=True, json_output=True, structured_output=True, family=ModelFamily.UNKNOWN
    )
    client = OpenAIChatCompletionClient(
        model=MODEL, base_url=BASE_URL, api_key=API_KEY, model_info=info, temperature=0, max_tokens=64
    )
    client.create = partial(client.create, tool_choice="required")
    agent = AssistantAgent(
        "weather", client, system_message=INSTRUCTIONS, tools=[get_temperature], reflect_on_tool_use=True
    )
    result = await agent.run(task=question)
    return result.messages[-1].content


if __name__ == "__main__":
    print("answer:", asyncio.run(ask(QUESTION)))
